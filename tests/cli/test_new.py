"""`fusionkit new` writes packages that pass their own tests, and nothing else."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fusionkit.registry.kinds import KINDS
from harness import run_cli


def install(package: Path, site: Path) -> None:
    """As `pip install` would leave it: the module on the path, and its entry points beside it."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (module,) = (package / "src").iterdir()
    (site / module.name).symlink_to(module)
    info = site / f"{module.name}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((name, target),) = project["entry-points"]["fusionkit"].items()
    (info / "entry_points.txt").write_text(f"[fusionkit]\n{name} = {target}\n")


@pytest.mark.parametrize("kind", [*KINDS])
def test_the_package_passes_its_tests_and_is_found(kind, tmp_path):
    package, site = tmp_path / "package", tmp_path / "site"
    site.mkdir()
    made = run_cli("new", kind, "my-thing_2", "--out", package)
    assert made.returncode == 0, made.stderr
    install(package, site)
    env = {"PYTHONPATH": str(site), "FUSIONKIT_PLUGINS": f"imagefusionkit,fusionkit-{kind}-my-thing-2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=package, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "my-thing_2" in run_cli("plugins", "list", env=env).stdout
    assert run_cli("plugins", "check", f"fusionkit-{kind}-my-thing-2", env=env).returncode == 0
    leftovers = [p.name for p in package.rglob("*") if "$" in p.name or (p.suffix == ".py" and "$" in p.read_text())]
    assert leftovers == []


@pytest.mark.parametrize(
    ("kind", "name", "cls"),
    [
        ("prior", "sources", "SourcesPrior(Prior)"),
        ("degradation", "splitting", "SplittingDegradation(Splitting)"),
        ("color-space", "sequence", "SequenceColorSpace(ColorSpace)"),
        ("metric", "options", "OptionsMetric(Metric)"),
        ("metric", "stored", "Stored(Metric)"),
    ],
)
def test_a_name_that_the_template_imports_gets_a_class_of_another(tmp_path, kind, name, cls):
    assert run_cli("new", kind, name, "--out", tmp_path / "a").returncode == 0
    assert f"class {cls}" in next((tmp_path / "a" / "src").glob("*/implementation.py")).read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("prior", "em_tv"), "is imagefusionkit"),
        (("prior", "My Thing"), "cannot name a plug-in"),
        (("prior", "class"), "cannot name a plug-in"),
        (("filter", "mine"), "no kind 'filter'; kinds: backbone, color-space"),
    ],
)
def test_wrong_requests_are_one_line_and_leave_nothing(arguments, reason, tmp_path):
    done = run_cli("new", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "fusionkit-prior-mine").mkdir()
    done = run_cli("new", "prior", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "exists" in done.stderr
    assert list((tmp_path / "fusionkit-prior-mine").iterdir()) == []
