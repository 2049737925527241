"""Finding plug-ins through entry points and pluggy.

pluggy's loader stops at the first broken package, skips the second of two entry points with one name, and accepts
misspelt hooks. Here each entry point is loaded by itself; failures are kept with their distribution and cause, and
reported only when they are listed or chosen.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

import pluggy

from ..errors import BrokenPlugin, FusionkitError, PluginClash, UnknownPlugin, one_line
from ..extras import OWNERS, install
from . import hookspecs
from .kinds import KINDS, Kind, kind_named
from .records import PluginRecord

if TYPE_CHECKING:
    from pydantic import BaseModel

GROUP = "fusionkit"
RESTRICT_VARIABLE = "FUSIONKIT_PLUGINS"
ALL = "`fusionkit plugins list` names all"
HOOKS = {kind.hook: kind for kind in KINDS.values()}


@dataclass(frozen=True)
class _Origin:
    """A distribution and its version."""

    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Name in error messages."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Registered(_Origin):
    """A record and its origin."""

    record: PluginRecord
    kind: str

    @property
    def name(self) -> str:
        """Name that users choose."""
        return self.record.name

    @property
    def summary(self) -> str:
        """Description in one line."""
        return self.record.summary

    @property
    def title(self) -> str:
        """Kind, name and origin, as error messages name the plug-in."""
        return f"{self.kind} {self.record.name!r} of {self.origin}"

    @property
    def installed(self) -> bool:
        """Whether all required modules are installed."""
        return not self.missing

    @property
    def missing(self) -> list[str]:
        """Required modules that are not installed."""
        return [module for module in self.record.modules if not _there(module)]

    @property
    def remedy(self) -> str:
        """The command that installs them."""
        extra = self.record.extra
        names = " ".join(self.missing).replace("_", "-")
        return install(extra, self.distribution) if extra else f"pip install {names}"


@dataclass(frozen=True)
class Failure(_Origin):
    """An entry point, or one hook of it, that did not load."""

    entry_point: str
    cause: str

    def __str__(self) -> str:
        return f"{self.origin} ({self.entry_point}): {self.cause}"


@dataclass(eq=False)
class Registry:
    """Plug-ins that loaded, and failures of those that did not."""

    plugins: list[Registered] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Registered]:
        """Plug-ins of one kind, sorted by name."""
        name = kind_named(kind).name
        return [p for p in self.plugins if p.kind == name]

    def names(self, kind: str) -> list[str]:
        """Sorted names of one kind."""
        return sorted({p.record.name for p in self.of_kind(kind)})

    def find(self, kind: str, name: str, prefer: Sequence[str] = ()) -> Registered:
        """Find the plug-in `name` of `kind`; "distribution:name" chooses between two distributions.

        prefer: distributions that win, in this order, where several offer an unqualified name.
        """
        distribution, _, short = name.rpartition(":")
        found = [p for p in self.of_kind(kind) if p.record.name == short and distribution in ("", p.distribution)]
        if not found:
            raise UnknownPlugin(self._unknown(kind, name))
        if len(found) == 1:
            return found[0]
        for preferred in prefer:
            chosen = [p for p in found if p.distribution == preferred]
            if len(chosen) == 1:
                return chosen[0]
        origins = " and ".join(p.origin for p in found)
        choices = " or ".join(sorted({f"{p.distribution}:{short}" for p in found}))
        hint = f"choose {choices}" if len({p.distribution for p in found}) > 1 else "the package must rename one"
        raise PluginClash(f"{kind} {short!r} is offered by {origins}: {hint}")

    def _unknown(self, kind: str, name: str) -> str:
        known = self.names(kind)
        near = difflib.get_close_matches(short_name(name), known, n=1)
        others = f"; did you mean {near[0]!r}? {ALL}" if near else f"; installed: {', '.join(known) or 'none'}"
        if (one := name.partition(":")[0]) in known:
            others = f"; options of {one} are KEY=VALUE"
        message = f"no {kind} {name!r}{others}"
        restriction = os.environ.get(RESTRICT_VARIABLE)
        if restriction is not None:
            message += f" ({RESTRICT_VARIABLE}={restriction!r} restricts what is loaded)"
        if self.failures:
            message += f"; failed to load: {'; '.join(map(str, self.failures))}"
        return message

    def load(self, kind: str, name: str, prefer: Sequence[str] = ()) -> type[Any]:
        """Import the class of a plug-in and check that it keeps the contract of its kind."""
        return load_class(self.find(kind, name, prefer))

    def create(self, kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Build a plug-in from its options; values may be strings, as on the command line."""
        return create(self.find(kind, name), options)

    def trainer(self, kind: str, name: str) -> type[Any]:
        """Import the trainer of a plug-in."""
        plugin = self.find(kind, name)
        if plugin.record.trainer is None:
            raise UnknownPlugin(f"{plugin.title} cannot be trained: it offers no trainer")
        return import_target(plugin, plugin.record.trainer)


def create(plugin: Registered, options: Mapping[str, Any] | None = None) -> Any:
    """Build a plug-in from its options."""
    return made(plugin, options_of(plugin, options))


def made(plugin: Registered, options: Any) -> Any:
    """Build a plug-in from valid options. Raises BrokenPlugin where its class does not take them."""
    implementation = load_class(plugin)
    try:
        instance = implementation(options)
    except FusionkitError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(f"{plugin.title} cannot be made: {type(error).__name__}: {one_line(error)}") from error
    check_whole(instance, KINDS[plugin.kind], plugin.title)
    return instance


def check_whole(instance: Any, kind: Kind, title: str) -> None:
    """Refuse an object without the attributes that its contract annotates, or with wrong values, in one line."""
    from pydantic import ValidationError

    from .. import contracts
    from ..options import explain

    own, model = type(instance).__name__, _attributes(kind)
    if not hasattr(instance, "options") and type(instance).Options is not contracts.Options:
        raise BrokenPlugin(f"{title}: {own} has no options; its __init__ must call super().__init__(options)")
    stated = {name: getattr(instance, name) for name in model.model_fields if hasattr(instance, name)}
    if missing := [name for name in model.model_fields if name not in stated]:
        raise BrokenPlugin(
            f"{title}: {own} lacks {' and '.join(missing)}; state them in the class, as `help(fusionkit."
            f"{kind.contract})` describes"
        )
    try:
        model.model_validate(stated)
    except ValidationError as error:
        raise BrokenPlugin(explain(error, model, f"{title}: {own}")) from None


@cache
def _attributes(kind: Kind) -> "type[BaseModel]":
    """The attributes that a kind's contract annotates, as a model."""
    from pydantic import ConfigDict, create_model

    from .. import contracts

    contract = getattr(contracts, kind.contract)
    fields: dict[str, Any] = {}
    for name, annotation in inspect.get_annotations(contract).items():
        constant = str(get_origin(annotation)) == "typing.ClassVar"
        fields[name] = (get_args(annotation)[0] if constant else annotation, ...)
    return create_model(kind.contract, __config__=ConfigDict(strict=True, protected_namespaces=()), **fields)


def options_of(plugin: Registered, options: Mapping[str, Any] | None = None) -> Any:
    """Validate the options of a plug-in; its class is imported, no object is made."""
    from ..options import split_texts, validate_options

    if missing := plugin.missing:
        raise BrokenPlugin(f"{plugin.kind} {plugin.record.name} needs {', '.join(missing)}: {plugin.remedy}")
    model = load_class(plugin).Options
    return validate_options(model, split_texts(model, options or {}), f"{plugin.kind} {plugin.record.name}")


def load_class(plugin: Registered) -> type[Any]:
    """Import the class of a plug-in and check that it keeps the contract of its kind."""
    from .. import contracts

    implementation = import_target(plugin, plugin.record.target)
    contract = KINDS[plugin.kind].contract
    if not (isinstance(implementation, type) and issubclass(implementation, getattr(contracts, contract))):
        raise BrokenPlugin(
            f"{plugin.title}: {plugin.record.target} must be a class derived from fusionkit.contracts.{contract}"
        )
    abstract = sorted(getattr(implementation, "__abstractmethods__", ()))
    if abstract:
        raise BrokenPlugin(f"{plugin.title}: does not implement {', '.join(abstract)}")
    model = getattr(implementation, "Options", None)
    strict = (
        isinstance(model, type) and issubclass(model, contracts.Options) and model.model_config["extra"] == "forbid"
    )
    if not strict:
        raise BrokenPlugin(
            f"{plugin.title}: {implementation.__name__}.Options must be a subclass of fusionkit.contracts.Options, "
            "which forbids unknown options"
        )
    return implementation


def short_name(name: str) -> str:
    """The name without the distribution before it."""
    return name.rpartition(":")[2]


def import_target(plugin: Registered, target: str) -> Any:
    """Import "module:attribute" of a plug-in. Raises BrokenPlugin."""
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(
            f"{plugin.title} cannot be imported from {target}: {type(error).__name__}: {error}"
        ) from error


def _there(module: str) -> bool:
    """Whether a module is installed."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of a package that is not there itself
        return False


def _canonical(distribution: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _records(manager: pluggy.PluginManager, entry: EntryPoint, name: str) -> Iterator[tuple[Kind, PluginRecord] | str]:
    """Yield records of an entry point with their kinds, and a message for each part of it that fails."""
    try:
        module = entry.load()
        manager.register(module, name)
    except (Exception, SystemExit) as error:
        yield f"{type(error).__name__}: {one_line(error)}"
        return
    for caller in manager.get_hookcallers(module) or []:
        if caller.name not in HOOKS:
            near = difflib.get_close_matches(caller.name, HOOKS, n=1)
            yield f"{caller.name} is no hook" + (f"; did you mean {near[0]}?" if near else "")
            continue
        kind = HOOKS[caller.name]
        for implementation in caller.get_hookimpls():
            if implementation.plugin_name != name:
                continue
            try:
                for record in cast(Iterable[object], implementation.function()):
                    if isinstance(record, kind.record):
                        yield kind, record
                    else:
                        yield f"{caller.name} yielded {type(record).__name__}, expected {kind.record.__name__}"
            except (Exception, SystemExit) as error:
                yield f"{caller.name} failed: {type(error).__name__}: {one_line(error)}"


def load_registry(entries: Iterator[EntryPoint] | None = None, restriction: str | None = None) -> Registry:
    """Load every entry point of the group `fusionkit`. restriction: names of the distributions that are let through."""
    registry = Registry()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    wanted = None if restriction is None else set(map(_canonical, restriction.split(",")))
    for number, entry in enumerate(entry_points(group=GROUP) if entries is None else entries):
        origin = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown distribution", "?")
        if wanted is not None and _canonical(origin[0]) not in wanted:
            continue
        with redirect_stdout(sys.stderr):  # what a package prints is none of our output
            found = list(_records(manager, entry, f"{number}:{origin[0]}:{entry.name}"))
        for item in found or ["implements no hook that yields anything"]:
            if isinstance(item, str):
                registry.failures.append(Failure(*origin, entry.name, item))
            else:
                kind, record = item
                registry.plugins.append(Registered(*origin, record, kind.name))
                OWNERS[record.target.partition(":")[0].partition(".")[0]] = " ".join(origin)
    registry.plugins.sort(key=lambda p: (p.kind, p.record.name, p.distribution))
    return registry


@cache
def get_registry() -> Registry:
    """The registry of this process, loaded on first use."""
    return load_registry(restriction=os.environ.get(RESTRICT_VARIABLE))


def list_plugins(kind: str | None = None) -> list[Registered]:
    """Plug-ins of a kind ("prior", "metric" ...) or of all, with `name`, `summary`, `distribution`, `missing` modules.

    Imports no implementation. Raises UnknownPlugin for an unknown kind.
    """
    registry = get_registry()
    return list(registry.plugins) if kind is None else registry.of_kind(kind)
