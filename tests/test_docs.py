"""The documentation cannot go stale: hooks, options, commands and links are checked against the code."""

import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from fusionkit import hookspecs
from fusionkit.cli.app import app
from fusionkit.registry import load_registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def test_every_hook_and_contract_is_described():
    text = (DOCS / "write-a-prior.md").read_text()
    for hook, record in hookspecs.HOOKS.items():
        assert f"`{hook}`" in text
        assert f"`{record.__name__}`" in text
        assert f"`{record.contract}`" in text


def test_the_reference_of_plugins_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import build_plugins

    assert (DOCS / "plugins.md").read_text() == build_plugins.page(), "run docs/build_plugins.py > docs/plugins.md"


def test_every_command_is_shown_and_has_help():
    text = "".join(p.read_text() for p in PAGES)
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"fusionkit {name}" in text, name
        assert command.help
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.name == "help", (name, parameter.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_ci_runs_the_test_command_of_the_readme():
    command = "pip install -c constraints.txt '.[test]' && pytest"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_example_package_works_as_printed(site):
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", (DOCS / "write-a-prior.md").read_text(), re.S)
    files = {re.match(r"# (\S+)", b).group(1): b for b in blocks}  # type: ignore[union-attr]
    package = site.site / "fusionkit_prior_softmax"
    package.mkdir()
    for name in ("__init__.py", "prior.py"):
        (package / name).write_text(files[f"src/fusionkit_prior_softmax/{name}"])
    info = site.site / "fusionkit_prior_softmax-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fusionkit-prior-softmax\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[fusionkit]\nsoftmax = fusionkit_prior_softmax\n")
    assert 'softmax = "fusionkit_prior_softmax"' in files["pyproject.toml"]
    registry = load_registry(restriction="fusionkit-prior-softmax")
    assert registry.failures == []
    import torch

    from harness import make_sources

    prior = registry.create("prior", "softmax", {"temperature": "0.02"})
    sources = make_sources(torch.zeros(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
    result, state = prior.correct(sources.luma[0], sources, prior.start(sources), 0.1)
    assert result.shape == (1, 1, 8, 8)
    assert state is None
    sys.modules.pop("fusionkit_prior_softmax", None)
