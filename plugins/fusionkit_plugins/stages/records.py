"""Records of the built-in stages, with the fields of configurations that add them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from fusionkit.options import FilePath
from fusionkit.registry.records import StageFlag, StageRecord


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, int | float | str) else value


FieldsOfView = Annotated[tuple[Annotated[float, Field(ge=0.05, le=20)], ...], BeforeValidator(_several)]

ALIGN = StageFlag(
    name="align",
    help="what to do about sources that lie elsewhere than the reference; check: note it; none: skip the check; "
    "translation, rigid, affine: find such a transform and move them by it; dense: and a field of shifts about it, for "
    "near and far parts or bent scans; handheld: frames of one camera, each beside its neighbours",
    values={
        "check": None,
        "none": None,
        **{model: {"model": model} for model in ("translation", "rigid", "affine", "dense", "handheld")},
    },
)
TRANSFORM = StageFlag(
    name="transform",
    help="file to move the sources by: what `save_transform` wrote, or a matrix of 2x3 or 3x3 numbers in JSON, CSV or "
    ".npy, from pixels of the reference to pixels of the source; see docs/align.md",
    option="transform",
    type=FilePath,
    default="",
)
FOV = StageFlag(
    name="fov",
    help="field of view of the sources in units of the reference's, as in 0.7, where `align` begins; given once, or "
    "once per source",
    option="fov",
    type=FieldsOfView,
    default=(),
    beside=("align", "transform"),
)
ALIGN_OR_KEEP = StageFlag(
    name="align_or_keep",
    help="fuse a source that `align` cannot align as it lies, with a note, instead of refusing the pair",
    option="or_keep",
    type=bool,
    default=False,
    beside=("align", "transform"),
)
REST = StageFlag(
    name="rest",
    help="find each pair's own small correction on top of `transform`; a pair without a confident one is moved by "
    "`transform` alone",
    option="rest",
    type=bool,
    default=False,
    beside=("transform",),
)
CROP = StageFlag(
    name="crop",
    help="what becomes of the part that an aligned source does not see; fill: the reference's details on the source's "
    "brightness; reference: the reference alone; common: the result is cut down to what all sources see",
    values={"fill": None, "reference": {"crop": "reference"}, "common": {"crop": "common"}},
    beside=("align", "transform"),
)
DEGHOST = StageFlag(
    name="deghost",
    help="which frame of a bracket shows what moves; auto: for each part the one that exposes it well and that most "
    "others agree with; a number: that frame; none: all, mixed",
    option="frame",
    type=Literal["auto", "none"] | PositiveInt,
    default="none",
)
RESIZE = StageFlag(
    name="resize",
    help="reference: resize sources of another size to the reference",
    values={"error": None, "reference": {}},
)
LEVELS = StageFlag(
    name="levels",
    help="truncated: cut the result down to whole 8-bit levels instead of rounding when it is written",
    values={"all": None, "truncated": {}},
    command=False,
)
STRETCH = StageFlag(
    name="stretch",
    help="minmax: stretch the result's luma to the full range",
    values={"none": None, "minmax": {}},
    command=False,
)
LUMA = StageFlag(
    name="luma",
    help="rounded: BT.601 luma of the sources in whole 8-bit levels, as OpenCV reads a grey image",
    values={"exact": None, "rounded": {}},
    command=False,
)
WORKING_SIZE = StageFlag(
    name="working_size",
    help="height and width, as in 768x1024: resize the sources to them and the result back, bicubic",
    option="size",
    type=tuple[int, int] | str | None,
    command=False,
)
LOOK = StageFlag(
    name="look",
    help="vivid: raise the contrast of a flat result, beyond the range of the sources; hot: raise that of hot objects "
    "in dim infrared sources first; auto: vivid for infrared pairs if the prior asks for it, otherwise faithful",
    values={"auto": {"scenes": "heat"}, "faithful": None, "vivid": {}, "hot": {"hot": 1.5}},
    asks="look",
)
PALETTE = StageFlag(
    name="palette",
    help="NAME:LOW,HIGH, as in iron:30,90: show what is hot in a palette's colours, with a legend, from LOW to HIGH in "
    "the grey source's own values (degrees, counts, 8-bit levels)",
    option="palette",
    default="",
)
# name, class, flags, summary; the first stage is outermost
ROWS: tuple[tuple[str, str, tuple[StageFlag, ...], str], ...] = (
    ("resize", "sizes:Resize", (RESIZE,), "resizes sources of another size to the reference"),
    (
        "align",
        "align:Align",
        (ALIGN, TRANSFORM, REST, FOV, ALIGN_OR_KEEP, CROP),
        "moves sources that are shifted, turned or scaled to the reference",
    ),
    ("palette", "palette:Palette", (PALETTE,), "shows what is hot in a thermal camera's colours, with a legend"),
    ("deghost", "deghost:Deghost", (DEGHOST,), "shows what moves between exposures as one frame has it"),
    ("truncate", "levels:Truncate", (LEVELS,), "cuts the result down to whole 8-bit levels"),
    ("stretch", "levels:Stretch", (STRETCH,), "stretches the result's luma to the full range"),
    ("rounded_luma", "levels:RoundedLuma", (LUMA,), "rounds the sources' luma to 8-bit levels, as OpenCV reads grey"),
    ("working_size", "sizes:WorkingSize", (WORKING_SIZE,), "fuses at a stated size; the result has the sources'"),
    ("vivid", "levels:Vivid", (LOOK,), "raises the contrast of a flat result, by 1.4 at most"),
)
STAGES = tuple(
    StageRecord(name=name, summary=summary, target=f"fusionkit_plugins.stages.{target}", place=10 * n, flags=flags)
    for n, (name, target, flags, summary) in enumerate(ROWS, 1)
)
