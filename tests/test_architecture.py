"""docs/architecture.md and the code say the same."""

import re
from pathlib import Path

import fusionkit
from fusionkit.registry.hookspecs import hookspec
from fusionkit.registry.kinds import KINDS

ROOT = Path(__file__).parents[1]
CORE = Path(fusionkit.__file__).parent


def test_the_table_of_rooms_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import build_architecture

    assert build_architecture.PAGE.read_text() == build_architecture.page(), "run docs/build_architecture.py"


def test_no_room_imports_upwards_or_sideways(monkeypatch):
    """What import-linter holds, seen with the reader of the page: so the page's arrows are those of the code."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import build_architecture

    layers = build_architecture.layers()
    level = {room: i for i, rooms in enumerate(layers) for room in rooms}
    for room in level:
        for target in build_architecture.imports(room):
            assert level[target] > level[room], f"{room} imports {target}"


def test_every_path_that_the_page_names_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in set(re.findall(r"`([a-z_]+/[a-z_]+\.py)", text)):
        assert (CORE / name).is_file(), name


def test_every_kind_has_its_hook_contract_and_tests():
    from fusionkit import contracts, testing
    from fusionkit.registry import hookspecs

    assert callable(hookspec)
    for kind in KINDS.values():
        assert getattr(hookspecs, kind.hook).__doc__
        assert getattr(contracts, kind.contract).__doc__
        assert getattr(testing, kind.conformance).kind == kind.name
    hooks = {name for name in vars(hookspecs) if name.startswith("fusionkit_")}
    assert hooks == {kind.hook for kind in KINDS.values()}
