"""Writes docs/plugins.md and a page for each kind, the reference of built-in plug-ins, from their options models.

python docs/build_plugins.py
"""

import inspect
import os
import re
from pathlib import Path

os.environ["FUSIONKIT_PLUGINS"] = "imagefusionkit"

from pydantic import BaseModel

from fusionkit import contracts
from fusionkit.method.config import SamplerOptions, configuration
from fusionkit.options import describe_field
from fusionkit.registry.kinds import KINDS, Kind
from fusionkit.registry.loading import get_registry

HEAD = """# Plug-ins and their options

The built-in ones; `fusionkit plugins list` shows what is installed, `fusionkit plugins show NAME` this text for any of
them. A page for each kind: {}. These pages are generated: `python docs/build_plugins.py`.
"""


KINDS_HEAD = """Contracts are in `fusionkit.contracts`, their tests in `fusionkit.testing`.

| kind | hook | yields | contract | tests | option | field |
|---|---|---|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """The pages as Markdown, by their paths beside this file."""
    links = ", ".join(f"[{kind}](plugins/{kind}.md)" for kind in KINDS)
    found = {f"plugins/{kind}.md": _page(kind) for kind in KINDS}
    parts = [HEAD.format(links)]
    for title, text, model in (
        ("The method", "Fields of a preset and of `fusionkit.PipelineConfig`.", configuration()),
        ("The sampler", "Options of `fusionkit run`, or `--set KEY=VALUE`; a preset's `[sampler]`.", SamplerOptions),
    ):
        parts += [f"\n## {title}\n\n{text}\n", *_table(model)]
    parts += ["\n## Kinds\n\n", KINDS_HEAD, *(_kind(kind) for kind in KINDS.values())]
    return {"plugins.md": "".join(parts), **found}


def _page(kind: str) -> str:
    """All of one kind."""
    registry, contract = get_registry(), getattr(contracts, KINDS[kind].contract)
    what = inspect.cleandoc(contract.__doc__).partition("\n")[0]
    parts = [f"# Plug-ins of the kind {kind}\n\n{what} Others: [plug-ins and their options](../plugins.md).\n"]
    for plugin in registry.of_kind(kind):
        implementation = registry.load(kind, plugin.record.name)
        parts.append(f"\n## `{plugin.record.name}`\n\n{plugin.record.summary}\n")
        parts.append(f"\n{_explained(inspect.cleandoc(implementation.__doc__ or ''))}\n")
        parts += _table(implementation.Options)
    return "".join(parts)


def _explained(text: str) -> str:
    """A docstring as Markdown: what is indented in it as code, the rest as text that wraps."""
    parts = []
    for lines in re.split(r"(?m)((?:^ {4,}.*\n?)+)", text):
        if lines.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(lines)}\n```")
        elif lines.strip():
            code = re.split(r"(`[^`]*`)", lines.strip())
            parts.append("".join(x if i % 2 else re.sub(r"([\\*_|<>\[\]])", r"\\\1", x) for i, x in enumerate(code)))
    return "\n\n".join(parts)


def _kind(kind: Kind) -> str:
    """A row of the table of kinds."""
    what = inspect.cleandoc(getattr(contracts, kind.contract).__doc__).partition("\n")[0]
    flag, key = (f"`{text}`" if text else "" for text in (kind.flag, kind.key))
    return (
        f"| {kind.name} | `{kind.hook}` | `{kind.record.__name__}` | `{kind.contract}`: {what} "
        f"| `{kind.conformance}` | {flag} | {key} |\n"
    )


def _table(model: type[BaseModel]) -> list[str]:
    """An options model as a Markdown table; nothing for one without options."""
    rows = []
    for name, info in model.model_fields.items():
        cells = (f"`{name}`", describe_field(info), info.description or "")
        rows.append("".join("| {} ".format(cell.replace("|", "\\|")) for cell in cells) + "|\n")
    return ["\n| option | type, range, default | meaning |\n|---|---|---|\n", *rows] if rows else []


if __name__ == "__main__":
    for name, text in pages().items():
        path = Path(__file__).parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
