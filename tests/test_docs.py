"""The documentation cannot go stale: hooks, options, commands and links are checked against the code."""

import re
from pathlib import Path

import pytest
from rich.markup import render
from typer.main import get_command

from fusionkit import testing
from fusionkit.cli.app import app
from fusionkit.cli.lazy import COMMANDS
from fusionkit.registry.kinds import KINDS
from fusionkit.registry.loading import get_registry
from fusionkit.scenes import SCENES
from harness import run_cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def test_every_hook_and_contract_is_described():
    text = (DOCS / "plugins.md").read_text()
    assert set(testing.__all__) >= {kind.conformance for kind in KINDS.values()}
    for kind in KINDS.values():
        for name in (kind.conformance, kind.hook, kind.record.__name__, kind.contract):
            assert f"`{name}`" in text


def test_the_reference_of_plugins_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import build_plugins

    pages = build_plugins.pages()
    for name, text in pages.items():
        assert (DOCS / name).read_text() == text, "run `make docs`"
    assert {f"plugins/{path.name}" for path in (DOCS / "plugins").iterdir()} == {*pages} - {"plugins.md"}


def test_every_command_is_shown_and_has_help():
    text = "".join(p.read_text() for p in PAGES)
    group = get_command(app)
    for name, listed in COMMANDS.items():
        command = group.load(name)  # type: ignore[attr-defined]
        assert f"fusionkit {name}" in text, name
        assert " ".join(command.help.split("\n\n")[0].split()) == listed
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.name == "help", (name, parameter.name)


def test_the_terminal_shows_every_word_of_the_help(monkeypatch):
    """Rich takes [words in brackets] for styles and hides them."""
    monkeypatch.syspath_prepend(str(DOCS))
    import build_cli

    for name, command in build_cli.commands():
        for text in (command.help, *(parameter.help for parameter in command.params)):
            assert render(text).plain == text, name


def test_help_fits_any_terminal(monkeypatch):
    """Paragraphs are one line each, choices are written as they are typed, flags have no type."""
    monkeypatch.syspath_prepend(str(DOCS))
    import build_cli

    for name, command in build_cli.commands():
        for part in command.help.split("\n\n"):
            assert build_cli.CODE.match(part) or "\n" not in part, name
        for parameter in command.params:
            flag = parameter.param_type_name == "option" and parameter.is_flag
            assert parameter.metavar == "" if flag else parameter.metavar != "", (name, parameter.name)
    done = run_cli("run", "--help", env={"COLUMNS": "100"}).stdout
    assert "error|reference" in done
    assert "(1 to 100)" in done
    assert "<bool>" not in done.partition("--help")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "tutorial.md", DOCS / "your-model.md"], ids=lambda p: p.name
)
def test_python_of_the_first_pages_runs(page, pair_files, tmp_path, monkeypatch):
    for name, path in zip(("ir.png", "vis.png"), pair_files, strict=True):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(block, {"pairs": []})
    assert Path("fused.png").stat().st_size > 0


def test_ci_runs_the_test_command_of_the_readme():
    command = "pip install -c constraints.txt '.[test]' && pytest -n auto"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


EXAMPLE = DOCS / "examples" / "fusionkit-prior-wls"


def test_the_printed_example_is_the_package():
    """Every block of the page stands in the package, word for word."""
    files = [p.read_text() for p in (EXAMPLE / "pyproject.toml", *EXAMPLE.rglob("*.py"))]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", (DOCS / "write-a-prior.md").read_text(), re.S)
    assert len(blocks) == 5
    for block in blocks:
        assert any(block.rstrip() in text for text in files), block


def test_the_tutorial_names_every_sheet_of_the_demo():
    text = " ".join((DOCS / "tutorial.md").read_text().split())
    first = text.partition("`fusionkit-demo/` then holds ")[2].partition(". ")[0]
    assert re.findall(r"`([\w-]+)\.png`", first) == list(SCENES)


def test_the_example_is_what_fusionkit_new_writes(tmp_path):
    """Same files, same entry point: the example has not drifted from the template."""
    assert run_cli("new", "prior", "wls", "--out", tmp_path / "new").returncode == 0
    written = {p.relative_to(tmp_path / "new") for p in (tmp_path / "new").rglob("*") if p.is_file()}
    kept = {p.relative_to(EXAMPLE) for p in EXAMPLE.rglob("*") if p.is_file()}
    assert written <= kept
    entry = '[project.entry-points.fusionkit]\nwls = "fusionkit_prior_wls"'
    assert entry in (tmp_path / "new" / "pyproject.toml").read_text()
    assert entry in (EXAMPLE / "pyproject.toml").read_text()


def test_wrapping_another_library_takes_less_than_forty_lines():
    example = DOCS / "examples" / "fusionkit-prior-deepinv" / "src" / "fusionkit_prior_deepinv" / "implementation.py"
    assert len(example.read_text().splitlines()) < 40


def test_the_reference_of_the_command_line_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import build_cli

    assert (DOCS / "cli.md").read_text() == build_cli.page(), "run docs/build_cli.py > docs/cli.md"
    for name, command in build_cli.commands():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), (name, parameter.name)


def test_every_option_of_every_builtin_is_described():
    for plugin in get_registry().plugins:
        options = get_registry().load(plugin.kind, plugin.record.name).Options
        for name, field in options.model_fields.items():
            assert field.description, (plugin.record.name, name)
