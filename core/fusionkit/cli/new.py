"""`fusionkit new`: a complete package for a plug-in of one's own."""

import keyword
import re
import shutil
import tempfile
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from ..errors import OptionError, OutputError
from ..extras import DISTRIBUTION
from ..registry.kinds import KINDS, kind_named

SCAFFOLDS = sorted(kind.name for kind in KINDS.values() if kind.scaffold)
# template -> where it goes in the package
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "ci.yml.txt": ".github/workflows/ci.yml",
    "init.py.txt": "src/{package}/__init__.py",
    "implementation.py.txt": "src/{package}/implementation.py",
    "test.py.txt": "tests/test_{identifier}.py",
}


Out = Annotated[Path | None, typer.Option("--out", help="Folder to make.", show_default="fusionkit-KIND-NAME")]


def new(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(SCAFFOLDS)}.")],
    name: Annotated[str, typer.Argument(help="How users will choose it: lower case, digits, '-' and '_'.")],
    out: Out = None,
) -> None:
    """Write a complete package for a plug-in: entry point, options, implementation, tests, README, CI.

    fusionkit new prior mine

    It installs and passes its tests as written; replace the example by your method.
    """
    from ..registry.loading import get_registry

    row = kind_named(kind)
    if kind not in SCAFFOLDS:
        raise OptionError(f"no example for {kind} yet; there are: {', '.join(SCAFFOLDS)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise OptionError(f"{name!r} cannot name a plug-in: lower-case letters, digits, single '-' or '_' between them")
    if name in get_registry().names(kind):
        raise OptionError(f"{kind} {name!r} is {get_registry().find(kind, name).origin}'s; choose another name")
    distribution = f"fusionkit-{kind}-{name.replace('_', '-')}"
    folder = out or Path(distribution)
    if folder.exists():
        raise OutputError(f"{folder}: exists; remove it, or give another folder with --out")
    identifier = name.replace("-", "_")
    cls = "".join(part.capitalize() for part in re.split("[-_]", name))
    templates = resources.files("fusionkit") / "templates"
    text = (templates / kind / "implementation.py.txt").read_text(encoding="utf-8")
    if cls in (*re.findall(r"\w+", text), row.conformance):  # what the module imports, which the class would hide
        cls += row.contract
    words = {
        "kind": kind,
        "name": name,
        "identifier": identifier,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "title": name.replace("_", " ").replace("-", " "),
        "cls": cls,
        "flag": row.flag,
        "hook": row.hook,
        "record": row.record.__name__,
        "contract": row.conformance,
        "summary": row.scaffold,
        "framework": DISTRIBUTION,
        "version": version(DISTRIBUTION),
    }
    _write(folder, templates, kind, words)
    typer.echo(f"{folder}: a working {kind}")
    typer.echo(f"  cd {folder} && pip install -e '.[test]' && pytest")
    typer.echo(f"  fusionkit plugins show {name}")


def _write(folder: Path, templates: Traversable, kind: str, words: dict[str, str]) -> None:
    """Write all files or none: the folder is made under a temporary name and moved into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        whole = Path(temporary) / "package"
        for template, place in FILES.items():
            own = templates / kind / template
            source = own if own.is_file() else templates / "common" / template
            path = whole / place.format(**words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        shutil.move(whole, folder)
