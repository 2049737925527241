"""Writes the table of rooms in docs/architecture.md from the packages' own docstrings and imports.

python docs/build_architecture.py            # rewrites the part between the marks
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "fusionkit"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: made by build_architecture.py -->\n", "<!-- end of rooms -->\n"


def page() -> str:
    """The page with its table as the code is now."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def table() -> str:
    """One row a room, from the top layer down: what it is, and which rooms it imports."""
    rows = ["| layer | room | what it holds | imports |\n|---|---|---|---|\n"]
    for number, names in enumerate(layers(), 1):
        for name in names:
            imported = ", ".join(sorted(imports(name)))
            rows.append(f"| {number} | `{name}` | {_summary(name)} | {imported} |\n")
    return "".join(rows)


def layers() -> list[list[str]]:
    """The layers that import-linter holds, the top one first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (names,) = (c["layers"] for c in contracts if c["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in names]


def imports(room: str) -> set[str]:
    """The rooms that a room's modules import, at their top or inside functions."""
    return {target for path in _modules(room) for target in _targets(path)} - {room}


def _modules(room: str) -> list[Path]:
    folder = CORE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [CORE / f"{room}.py"]


def _targets(path: Path) -> Iterator[str]:
    package = ["fusionkit", *path.relative_to(CORE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            full = [*base, *(node.module or "").split(".")] if node.module else base
            yield from [full[1]] if len(full) > 1 else [a.name for a in node.names if _is_room(a.name)]


def _is_room(name: str) -> bool:
    return (CORE / name).is_dir() or (CORE / f"{name}.py").is_file()


def _summary(room: str) -> str:
    path = CORE / room / "__init__.py" if (CORE / room).is_dir() else CORE / f"{room}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].partition(". ")[0].rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
