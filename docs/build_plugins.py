"""Writes docs/plugins.md, the reference of built-in plug-ins, from their options models.

python docs/build_plugins.py > docs/plugins.md
"""

import inspect
import os

os.environ["FUSIONKIT_PLUGINS"] = "fusionkit"

from pydantic import BaseModel

from fusionkit.config import PipelineConfig
from fusionkit.records import KINDS
from fusionkit.registry import describe_field, get_registry
from fusionkit.sampler import SamplerOptions

HEAD = """# Plug-ins and their options

The built-in ones; `fusionkit plugins list` shows what is installed, `fusionkit plugins show NAME` this text for any of
them. This page is generated: `python docs/build_plugins.py > docs/plugins.md`.
"""


def page() -> str:
    """The page as Markdown."""
    registry, parts = get_registry(), [HEAD]
    for title, text, model in (
        ("The method", "Fields of a preset and of `fusionkit.PipelineConfig`.", PipelineConfig),
        ("The sampler", "`--sampler-opt`, a preset's `[sampler]`.", SamplerOptions),
    ):
        parts += [f"\n## {title}\n\n{text}\n", *_table(model)]
    for kind in KINDS:
        parts.append(f"\n## {kind}\n")
        for plugin in (p for p in registry.plugins if p.record.kind == kind):
            implementation = registry.load(kind, plugin.record.name)
            parts.append(f"\n### `{plugin.record.name}`\n\n{plugin.record.summary}\n")
            parts.append(f"\n```text\n{inspect.cleandoc(implementation.__doc__ or '')}\n```\n")
            parts += _table(implementation.Options)
    return "".join(parts)


def _table(model: type[BaseModel]) -> list[str]:
    """An options model as a Markdown table; nothing for one without options."""
    rows = []
    for name, info in model.model_fields.items():
        described = describe_field(info).replace("|", "\\|")
        rows.append(f"| `{name}` | {described} | {info.description or ''} |\n")
    return ["\n| option | type, range, default | meaning |\n|---|---|---|\n", *rows] if rows else []


if __name__ == "__main__":
    print(page(), end="")
