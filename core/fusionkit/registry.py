"""Finding plug-ins: our own loading of entry points around pluggy.

pluggy's loader stops at the first broken package, skips the second of two entry points with one name, and accepts
misspelt hooks. Here each entry point is loaded by itself; what fails is kept with its distribution and cause, and
reported only when it is listed or chosen.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import pluggy

from . import hookspecs
from .errors import BrokenPlugin, OptionError, PluginClash, UnknownPlugin
from .records import PluginRecord

__all__ = ["Failure", "Registered", "Registry", "get_registry"]

GROUP = "fusionkit"
RESTRICT_VARIABLE = "FUSIONKIT_PLUGINS"


@dataclass(frozen=True)
class Registered:
    """A record and where it comes from."""

    record: PluginRecord
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Distribution and version, as error messages name them."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Failure:
    """An entry point, or one hook of it, that did not load."""

    distribution: str
    version: str
    entry_point: str
    cause: str

    @property
    def origin(self) -> str:
        """Distribution and version, as error messages name them."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"{self.origin} ({self.entry_point}): {self.cause}"


@dataclass
class Registry:
    """Everything that loaded, and everything that did not."""

    plugins: list[Registered] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def names(self, kind: str) -> list[str]:
        """Sorted names of one kind."""
        return sorted({p.record.name for p in self.plugins if p.record.kind == kind})

    def find(self, kind: str, name: str) -> Registered:
        """The plug-in `name` of `kind`; "distribution:name" chooses between two distributions."""
        distribution, _, short = name.rpartition(":")
        found = [
            p
            for p in self.plugins
            if p.record.kind == kind and p.record.name == short and distribution in ("", p.distribution)
        ]
        if not found:
            raise UnknownPlugin(self._unknown(kind, name))
        if len(found) > 1:
            origins = " and ".join(p.origin for p in found)
            choices = " or ".join(sorted({f"{p.distribution}:{short}" for p in found}))
            hint = f"choose {choices}" if len({p.distribution for p in found}) > 1 else "the package must rename one"
            raise PluginClash(f"{kind} {short!r} is offered by {origins}: {hint}")
        return found[0]

    def _unknown(self, kind: str, name: str) -> str:
        known = self.names(kind)
        near = difflib.get_close_matches(name, known, n=1)
        message = f"no {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ";")
        message += f" installed: {', '.join(known) or 'none'}"
        restriction = os.environ.get(RESTRICT_VARIABLE)
        if restriction is not None:
            message += f" ({RESTRICT_VARIABLE}={restriction!r} restricts what is loaded)"
        if self.failures:
            message += f"; failed to load: {'; '.join(map(str, self.failures))}"
        return message

    def load(self, kind: str, name: str) -> type[Any]:
        """Import the class of a plug-in and check that it keeps the contract of its kind."""
        from . import contracts

        plugin = self.find(kind, name)
        implementation = _import(plugin, plugin.record.target)
        contract = getattr(contracts, plugin.record.contract)
        if not (isinstance(implementation, type) and issubclass(implementation, contract)):
            raise BrokenPlugin(
                f"{kind} {name!r} of {plugin.origin}: {plugin.record.target} must be a class derived from "
                f"fusionkit.contracts.{plugin.record.contract}"
            )
        abstract = sorted(getattr(implementation, "__abstractmethods__", ()))
        if abstract:
            raise BrokenPlugin(f"{kind} {name!r} of {plugin.origin}: does not implement {', '.join(abstract)}")
        options_model(implementation, plugin)
        return implementation

    def create(self, kind: str, name: str, options: dict[str, Any] | None = None) -> Any:
        """A plug-in built from its options; values may be strings, as the command line gives them."""
        implementation = self.load(kind, name)
        model = implementation.Options
        return implementation(validate_options(model, options or {}, f"{kind} {name}"))

    def trainer(self, kind: str, name: str) -> type[Any]:
        """Import the trainer of a plug-in."""
        plugin = self.find(kind, name)
        if plugin.record.trainer is None:
            raise UnknownPlugin(f"{kind} {name!r} of {plugin.origin} cannot be trained: it offers no trainer")
        trainer: type[Any] = _import(plugin, plugin.record.trainer)
        return trainer

    def importer(self, plugin: Registered) -> type[Any]:
        """Import the checkpoint importer of a plug-in."""
        assert plugin.record.importer is not None
        importer: type[Any] = _import(plugin, plugin.record.importer)
        return importer


def options_model(implementation: type[Any], plugin: Registered) -> Any:
    """The class's options model; a plug-in without options has an empty one."""
    from pydantic import BaseModel

    model = getattr(implementation, "Options", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BrokenPlugin(
            f"{plugin.record.kind} {plugin.record.name!r} of {plugin.origin}: {implementation.__name__}.Options must "
            "be a subclass of fusionkit.contracts.Options"
        )
    return model


def validate_options(model: Any, options: dict[str, Any], owner: str) -> Any:
    """Build an options model; an unknown key or a wrong value is one line that says what is possible."""
    from pydantic import ValidationError

    try:
        return model.model_validate(options)
    except ValidationError as error:
        known = model.model_fields
        problems = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"]))
            if item["type"] == "extra_forbidden":
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                problems.append(f"no option {key!r}{hint} (options: {', '.join(known) or 'none'})")
            else:
                text = item["msg"][:1].lower() + item["msg"][1:]
                if item["loc"]:
                    text = f"{key}={item['input']!r}: {text} ({describe_field(known[str(item['loc'][0])])})"
                problems.append(text.removeprefix("value error, "))
        raise OptionError(f"{owner}: {'; '.join(problems)}") from None


def describe_field(info: Any) -> str:
    """Type, range and default of a pydantic field, as text."""
    annotation = info.annotation
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(
        annotation
    ).replace("typing.", "")  # fmt: skip
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [f"{symbols[k]} {getattr(m, k)}" for m in info.metadata for k in symbols if hasattr(m, k)]
    return ", ".join([text, *limits, f"default {info.get_default(call_default_factory=True)!r}"])


def _import(plugin: Registered, target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        raise BrokenPlugin(
            f"{plugin.record.kind} {plugin.record.name!r} of {plugin.origin} cannot be imported from {target}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _allowed(entry: EntryPoint, restriction: str | None) -> bool:
    if restriction is None:
        return True
    wanted = {_canonical(item) for item in restriction.split(",") if item.strip()}
    return _canonical(_distribution(entry)[0]) in wanted


def _canonical(distribution: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    dist = entry.dist
    return (dist.name, dist.version) if dist is not None else ("unknown distribution", "?")


def _records(manager: pluggy.PluginManager, module: Any, name: str) -> Iterator[PluginRecord | str]:
    """Records of one registered module; a string is what is wrong with one hook or record."""
    for caller in manager.get_hookcallers(module) or []:
        if caller.name not in hookspecs.HOOKS:
            near = difflib.get_close_matches(caller.name, hookspecs.HOOKS, n=1)
            yield f"{caller.name} is no hook" + (f"; did you mean {near[0]}?" if near else "")
            continue
        expected = hookspecs.HOOKS[caller.name]
        for implementation in caller.get_hookimpls():
            if implementation.plugin_name != name:
                continue
            try:
                for record in cast(Iterable[object], implementation.function()):
                    if isinstance(record, expected):
                        yield record
                    else:
                        yield f"{caller.name} yielded {type(record).__name__}, expected {expected.__name__}"
            except (Exception, SystemExit) as error:
                yield f"{caller.name} failed: {type(error).__name__}: {error}"


def load_registry(entries: Iterator[EntryPoint] | None = None, restriction: str | None = None) -> Registry:
    """Load every entry point of the group `fusionkit` that `restriction` (names of distributions) lets through."""
    registry = Registry()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for number, entry in enumerate(entry_points(group=GROUP) if entries is None else entries):
        if not _allowed(entry, restriction):
            continue
        distribution, version = _distribution(entry)

        def failed(cause: str, entry: EntryPoint = entry) -> None:
            registry.failures.append(Failure(*_distribution(entry), entry.name, cause))

        name = f"{number}:{distribution}:{entry.name}"
        try:
            module = entry.load()
            manager.register(module, name)
        except (Exception, SystemExit) as error:
            failed(f"{type(error).__name__}: {error}")
            continue
        found = list(_records(manager, module, name))
        if not found:
            failed("implements no hook that yields anything")
        for item in found:
            if isinstance(item, str):
                failed(item)
            else:
                registry.plugins.append(Registered(item, distribution, version))
    registry.plugins.sort(key=lambda p: (p.record.kind, p.record.name, p.distribution))
    return registry


@cache
def get_registry() -> Registry:
    """The registry of this process, loaded on first use."""
    return load_registry(restriction=os.environ.get(RESTRICT_VARIABLE))
