"""`fusionkit plugins`: list plug-ins, describe their options, check that they load."""

import difflib
import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FusionkitError, PluginClash, UnknownPlugin
from ..extras import DISTRIBUTION
from ..options import describe_field, validate_options
from ..registry.kinds import KINDS
from .messages import printable
from .reports import print_table

if TYPE_CHECKING:
    from ..registry.loading import Registered

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command("list")
def list_plugins(
    kind: Annotated[str | None, typer.Option(help="Only one kind, such as prior.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="List each metric of a dialect on its own line.")] = False,
    machine: Annotated[bool, typer.Option("--json", help="All of it as JSON, for programs.")] = False,
) -> None:
    """List installed plug-ins by kind: name, summary, other distributions; then those that failed to load."""
    from rich.console import Console

    from ..registry.loading import get_registry

    registry = get_registry()
    kinds = [kind] if kind is not None else list(KINDS)
    found = {name: registry.of_kind(name) for name in kinds}
    if machine:
        rows = [_row(plugin) for plugins in found.values() for plugin in plugins]
        typer.echo(json.dumps({"plugins": rows, "failures": list(map(str, registry.failures))}, indent=2))
        return
    for name, plugins in found.items():
        typer.secho(f"{name} ({len(plugins)})", bold=True)
        for plugin_name, summary in _lines(plugins, whole=whole):
            typer.echo(f"  {plugin_name:20} {printable(summary)}")
    for failure in registry.failures:
        Console(stderr=True).print(f"failed to load: {failure}", style="red", markup=False, soft_wrap=True)


def _lines(plugins: "list[Registered]", *, whole: bool) -> Iterator[tuple[str, str]]:
    """Names and descriptions; metrics of a dialect share one line."""
    dialects: dict[str, list[str]] = {}
    for plugin in plugins:
        record = plugin.record
        dialect = getattr(record, "dialect", "")
        if dialect and not whole:
            dialects.setdefault(dialect, []).append(record.name.partition(".")[2] or record.name)
            continue
        needed = f"[{record.extra}]" if record.extra else ", ".join(plugin.missing)
        extra = "" if plugin.installed else f"; needs {needed}, not installed"
        origin = "" if plugin.distribution == DISTRIBUTION else f" ({plugin.origin})"
        yield record.name, f"{record.summary}{extra}{origin}"
    for dialect, names in dialects.items():
        yield f"{dialect}.*", f"{len(names)}: {', '.join(names)}"


def _row(plugin: "Registered") -> dict[str, Any]:
    record = {key: value for key, value in asdict(plugin.record).items() if key not in ("magic", "mark", "flags")}
    origin = {"distribution": plugin.distribution, "version": plugin.version, "installed": plugin.installed}
    return {"kind": plugin.kind, **origin, **record}


@app.command()
def show(name: Annotated[str, typer.Argument(help="NAME, or distribution:NAME.")]) -> None:
    """Describe the plug-ins called NAME: options with type, default, range and help."""
    from rich.console import Console
    from rich.text import Text

    from ..registry.loading import ALL, get_registry, load_class

    registry, (distribution, _, short) = get_registry(), name.rpartition(":")
    named = [p for p in registry.plugins if p.name == short and distribution in ("", p.distribution)]
    if not named:
        near = difflib.get_close_matches(name, sorted({p.name for p in registry.plugins}), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownPlugin(f"no plug-in {name!r}; {hint}{ALL}")
    console = Console()
    for plugin in sorted(named, key=lambda p: [*KINDS].index(p.kind)):
        implementation = load_class(plugin)
        console.print(f"{plugin.name} ({plugin.kind}, {plugin.origin})", style="bold", markup=False)
        console.print(plugin.summary, markup=False)
        if implementation.__doc__:
            console.print("\n" + inspect.cleandoc(implementation.__doc__), markup=False, highlight=False)
        fields = implementation.Options.model_fields
        if not fields:
            console.print("\nno options\n")
            continue
        rows = [(option, Text(describe_field(info)), Text(info.description or "")) for option, info in fields.items()]
        print_table(("option", "type, range, default", "meaning"), rows)


@app.command()
def check(
    distribution: Annotated[str | None, typer.Argument(help="Only this distribution.", show_default="all")] = None,
) -> None:
    """Import every plug-in and verify its contract; exit 2 when something is wrong."""
    from ..registry.loading import get_registry

    registry = get_registry()
    plugins = [p for p in registry.plugins if distribution in (None, p.distribution)]
    failures = [f for f in registry.failures if distribution in (None, f.distribution)]
    if not plugins and not failures:
        known = ", ".join(sorted({p.distribution for p in registry.plugins}))
        raise UnknownPlugin(f"no plug-ins from a distribution {distribution!r}; installed: {known}")
    problems = [str(f) for f in failures]
    for plugin in plugins:
        try:
            _check(plugin)
        except FusionkitError as error:
            problems.append(str(error))
        else:
            typer.echo(f"ok: {plugin.kind} {plugin.record.name} ({plugin.origin})")
    for problem in problems:
        typer.echo(f"wrong: {problem}", err=True)
    if problems:
        raise typer.Exit(2)


def _check(plugin: "Registered") -> None:
    """Refuse a plug-in that breaks its contract, or whose name clashes, though each of the two can be chosen."""
    from ..method.flags import stage_flags
    from ..registry.loading import get_registry, import_target

    record, registry = plugin.record, get_registry()
    name = f"{plugin.distribution}:{record.name}"
    registry.find(plugin.kind, record.name)
    implementation = registry.load(plugin.kind, name)
    validate_options(implementation.Options, {}, f"{plugin.kind} {record.name}: default options")
    if record.trainer is not None:
        registry.trainer(plugin.kind, name)
    if record.importer is not None:
        import_target(plugin, record.importer)
    flags = {flag.name for flag in getattr(record, "flags", ())}
    if lost := sorted(flags - {flag.name for flag in stage_flags(registry)}):
        raise PluginClash(f"{plugin.title}: a field of a configuration is called {lost[0]!r} already; rename the flag")
