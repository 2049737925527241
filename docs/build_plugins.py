"""Writes docs/plugins.md, the reference of built-in plug-ins, from their options models.

python docs/build_plugins.py > docs/plugins.md
"""

import inspect
import os

os.environ["FUSIONKIT_PLUGINS"] = "imagefusionkit"

from pydantic import BaseModel

from fusionkit import contracts
from fusionkit.method.config import PipelineConfig, SamplerOptions
from fusionkit.options import describe_field
from fusionkit.registry.kinds import KINDS, Kind
from fusionkit.registry.loading import get_registry

HEAD = """# Plug-ins and their options

The built-in ones; `fusionkit plugins list` shows what is installed, `fusionkit plugins show NAME` this text for any of
them. This page is generated: `python docs/build_plugins.py > docs/plugins.md`.
"""


KINDS_HEAD = """Contracts are in `fusionkit.contracts`, their tests in `fusionkit.testing`.

| kind | hook | yields | contract | tests | option | field |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    registry, parts = get_registry(), [HEAD]
    for title, text, model in (
        ("The method", "Fields of a preset and of `fusionkit.PipelineConfig`.", PipelineConfig),
        ("The sampler", "`--sampler-opt`, a preset's `[sampler]`.", SamplerOptions),
    ):
        parts += [f"\n## {title}\n\n{text}\n", *_table(model)]
    parts += ["\n## Kinds\n\n", KINDS_HEAD, *(_kind(kind) for kind in KINDS.values())]
    for kind in KINDS:
        parts.append(f"\n## {kind}\n")
        for plugin in registry.of_kind(kind):
            implementation = registry.load(kind, plugin.record.name)
            parts.append(f"\n### `{plugin.record.name}`\n\n{plugin.record.summary}\n")
            parts.append(f"\n```text\n{inspect.cleandoc(implementation.__doc__ or '')}\n```\n")
            parts += _table(implementation.Options)
    return "".join(parts)


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
        described = describe_field(info).replace("|", "\\|")
        rows.append(f"| `{name}` | {described} | {info.description or ''} |\n")
    return ["\n| option | type, range, default | meaning |\n|---|---|---|\n", *rows] if rows else []


if __name__ == "__main__":
    print(page(), end="")
