"""Records of plug-ins: light and frozen, they name an implementation but do not import it.

A record is found by listing entry points; its `target` is imported only when the plug-in is chosen. Nothing here may
import torch. Values are checked when the record is made, so that a wrong one is an error of its package alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_origin

__all__ = [
    "BackboneRecord",
    "ColorSpaceRecord",
    "DecoderRecord",
    "DegradationRecord",
    "DetectorRecord",
    "MetricRecord",
    "PluginRecord",
    "PriorRecord",
    "ReaderRecord",
    "StageFlag",
    "StageRecord",
    "TableRow",
    "WriterRecord",
]


@dataclass(frozen=True, slots=True)
class Text:
    """Marks a text of a certain form. pattern: of all of it. words: what it is, for messages."""

    pattern: str
    words: str


Name = Annotated[str, Text(r"[^\s:,=+]+", "a name without spaces and : , = +")]
Words = Annotated[str, Text(r"\S[^\n\r]*", "a line of text")]
Place = Annotated[str, Text(r"\w+(\.\w+)*:\w+", '"module:Class"')]
Extensions = tuple[Annotated[str, Text(r"\.[^A-Z/]+", 'extensions such as ".png", in lower case')], ...]


class _Checked:
    """Refuses fields of wrong types."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]  # a dataclass
            if (expected := _unfit(getattr(self, one.name), one.type)) is not None:
                own = f"{type(self).__name__} {getattr(self, 'name', '')!r}"
                raise TypeError(f"{own}: {one.name}={getattr(self, one.name)!r}, expected {expected}")


def _unfit(value: object, annotation: Any) -> str | None:
    """What was expected of an annotated value; None where it fits."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        formed = isinstance(value, str) and re.fullmatch(arguments[1].pattern, value)
        return None if formed else str(arguments[1].words)
    if origin is Literal:
        return None if value in arguments else " or ".join(map(repr, arguments))
    if origin is tuple:
        if not isinstance(value, tuple):
            return "a tuple"
        each = arguments[:1] * len(value) if Ellipsis in arguments else arguments
        if len(value) != len(each):
            return f"{len(each)} values"
        return next((wrong for pair in zip(value, each, strict=True) if (wrong := _unfit(*pair)) is not None), None)
    if origin is not Mapping and arguments:  # a union
        unfit = [_unfit(value, one) for one in arguments]
        return None if None in unfit else unfit[0]
    fits = annotation is Any or (
        isinstance(value, origin or annotation) and (annotation is not int or not isinstance(value, bool))
    )
    return None if fits else (origin or annotation).__name__


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginRecord(_Checked):
    """One plug-in.

    name: how users choose it. summary: one line for `fusionkit plugins list`. target: "module:Class"; the class
    keeps the contract of its kind and has its options model as the attribute `Options`. modules: modules that it
    imports. extra: the optional dependency of its distribution that installs them. rank: its place, from 1, among the
    few that lists begin with; 0: after them, by name. trainer: "module:Class" of a `fusionkit.training.loop.Trainer`,
    for `fusionkit train`. importer: "module:Class" of a `fusionkit.weights.CheckpointImporter`, for `fusionkit weights
    import`; the options then have a field `weights`.
    """

    name: Name
    summary: Words
    target: Place
    modules: tuple[str, ...] = ()
    extra: str = ""
    rank: int = 0
    trainer: Place | None = None
    importer: Place | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneRecord(PluginRecord):
    """A velocity field: see `fusionkit.contracts.Backbone`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow(_Checked):
    """A row that a built-in prior has in every table of an evaluation.

    place: of the row, from 1. label: its name. options: the prior's. alone: it shows one source and fuses nothing.
    """

    place: int
    label: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    alone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorRecord(PluginRecord):
    """A fusion prior: see `fusionkit.contracts.Prior`.

    scenes: kinds of scene that it is made for, as `fusionkit.scene.SCENE_KINDS` names them; empty: all. yardstick: a
    comparison of fusions leaves it out. rows: of the built-ins alone, so that no table depends on what is installed.
    """

    scenes: tuple[str, ...] = ()
    yardstick: bool = False
    rows: tuple[TableRow, ...] = ()

    def suits(self, scene: str) -> bool:
        """Whether a comparison of fusions of such a scene shows it."""
        return not self.yardstick and (not self.scenes or scene in self.scenes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorSpaceRecord(PluginRecord):
    """A colour space: see `fusionkit.contracts.ColorSpace`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderRecord(PluginRecord):
    """An autoencoder: see `fusionkit.contracts.Decoder`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DegradationRecord(PluginRecord):
    """A degradation of sources: see `fusionkit.contracts.Degradation`.

    place: where in a camera it happens, from the lens to the file; several are undone from the highest place down. The
    built-in ones: blur 10, light 20, sampling 30, noise 40, pattern 50, file 60. automatic: undone wherever it is
    found; else the user is told, and may ask for it. learned: undone by a network of its own. evaluations: of the
    flow, that undoing it takes by default.
    """

    place: int
    automatic: bool = False
    learned: bool = False
    evaluations: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRecord(PluginRecord):
    """A fusion metric: see `fusionkit.contracts.Metric`.

    dialect: the project whose code it follows, quirks included, or "audit"; "" for one as its paper defines it.
    higher_is_better: which way is better. rank: of the built-ins, those with one are computed where none is named, in
    that order. short: it is one of the few that a page has room for.
    """

    dialect: str = ""
    higher_is_better: bool = True
    short: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorRecord(PluginRecord):
    """A detector of objects: see `fusionkit.contracts.Detector`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageFlag(_Checked):
    """A field of configurations, and an option of the command line, that adds a stage.

        StageFlag(name="denoise", help="...", values={"none": None, "weak": {}, "strong": {"radius": 5}})
        StageFlag(name="mask", help="...", option="file", type=FilePath, default="")

    values: what the field may be, and the stage's options for each; None leaves the stage out; the first is the
    default. Or option: the stage's option that takes the field's value itself, of a type; at the default the stage is
    left out. beside: names of the record's other flags, to whose stage the option goes; without one of them it is
    refused. asks: attribute of the prior, one of `values`, that decides where the field is left at its default.
    command: whether `fusionkit run` has an option of its own for it.
    """

    name: Annotated[str, Text(r"[a-z][a-z0-9_]*", "lower-case letters, digits and _")]
    help: Words
    values: Mapping[str, Mapping[str, Any] | None] | None = field(default=None, hash=False)
    option: str = ""
    type: object = str
    default: object = None
    beside: tuple[str, ...] = ()
    asks: str = ""
    command: bool = True

    def __post_init__(self) -> None:
        """The first value is the default."""
        _Checked.__post_init__(self)
        if bool(self.values) == bool(self.option):
            raise TypeError(f"StageFlag {self.name}: state values, or the option that takes the value")
        if self.values:
            object.__setattr__(self, "default", next(iter(self.values)))


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRecord(PluginRecord):
    """A stage around the fusion: see `fusionkit.contracts.Stage`.

    flags: fields of configurations that add it, of which one may be set. place: the order of stages that fields add,
    the lowest outermost; the built-in ones have 10, 20 ... 80.
    """

    flags: tuple[StageFlag, ...] = ()
    place: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderRecord(PluginRecord):
    """A reader of image files: see `fusionkit.contracts.Reader`.

    extensions: of its files, in lower case with the dot. magic: offsets below 512 and the bytes there, any of which its
    files have; a file of a listed extension without them goes to another reader. mark: bytes somewhere in the first
    256 KB that only its files have; such a reader is tried before all others. several: files may hold several pictures.
    fallback: it is tried on every file, after all others, since it knows more formats than it lists.
    """

    extensions: Extensions = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    mark: bytes = b""
    several: bool = False
    fallback: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterRecord(PluginRecord):
    """A writer of image files: see `fusionkit.contracts.Writer`.

    extensions: of its files, in lower case with the dot. depths: of a sample, of "8", "16" and "float", the first one
    recommended. alpha, color: whether its files hold them; without alpha, results are composited onto white. keeps:
    what of the reference its files hold: "exif" with XMP, "icc" profiles, "geo" (GeoTIFF's tags), "png" (chunks that
    state colours), "nodata" (a value that stands for no data), "readings" (values that sources measured, beside the
    picture). volumes: its files hold all slices of a volume (`write_volume`). rank: the place of its extensions in
    messages.
    """

    extensions: Extensions = ()
    depths: tuple[Literal["8", "16", "float"], ...] = ("8",)
    alpha: bool = False
    color: bool = True
    keeps: tuple[Literal["exif", "icc", "geo", "png", "nodata", "readings"], ...] = ()
    volumes: bool = False
