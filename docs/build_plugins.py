"""Writes docs/plugins.md, the reference of built-in plug-ins, from their options models.

python docs/build_plugins.py > docs/plugins.md
"""

import inspect
import os

os.environ["FUSIONKIT_PLUGINS"] = "fusionkit"

from fusionkit.records import KINDS
from fusionkit.registry import describe_field, get_registry

HEAD = """# Plug-ins and their options

The built-in ones; `fusionkit plugins list` shows what is installed, `fusionkit plugins show NAME` this text for any of
them. This page is generated: `python docs/build_plugins.py > docs/plugins.md`.
"""


def page() -> str:
    """The page as Markdown."""
    registry, parts = get_registry(), [HEAD]
    for kind in KINDS:
        parts.append(f"\n## {kind}\n")
        for plugin in (p for p in registry.plugins if p.record.kind == kind):
            implementation = registry.load(kind, plugin.record.name)
            parts.append(f"\n### `{plugin.record.name}`\n\n{plugin.record.summary}\n")
            parts.append(f"\n```text\n{inspect.cleandoc(implementation.__doc__ or '')}\n```\n")
            fields = implementation.Options.model_fields
            if fields:
                parts.append("\n| option | type, range, default | meaning |\n|---|---|---|\n")
            for name, info in fields.items():
                described = describe_field(info).replace("|", "\\|")
                parts.append(f"| `{name}` | {described} | {info.description or ''} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
