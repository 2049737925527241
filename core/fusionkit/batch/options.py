"""How files are read and written. Imports nothing heavy: the command line derives its options from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from ..errors import NoEffect
from ..options import FilePath, Options, When, word

if TYPE_CHECKING:
    from ..reading.ranges import Reading

Range = tuple[float, float] | Literal["auto", "full"]
Bands = tuple[int, ...]
# options that decide no byte of a result
NEUTRAL = frozenset({"max_pixels", "save_transform", "save_depth", "save_aligned", "force"})


@dataclass(frozen=True, slots=True)
class For:
    """Marks a field that only some runs (`single`, `folders`, `shards`, `video`) or formats read; empty: all.

    written: those formats whose writers have an option of its name.
    """

    modes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    written: bool = False


Mode = Literal["single", "folders", "shards", "video"]
WORDS: dict[Mode, str] = {
    "single": "a single result",
    "folders": "`pairs` or `group`",
    "shards": "`shards`",
    "video": "video",
}
RADIANCE = (".exr", ".hdr")  # results that are the light of a bracket, where its exposures are known
REVIEWED = 200  # pairs of a review, about 25 kB each
IMAGES: tuple[Mode, ...] = ("single", "folders", "shards")


class ResultOptions(Options):
    """Which results are made, their extension, and what is written beside them."""

    ext: Annotated[str, For(("folders", "shards"))] = Field(
        ".png", description="extension of the results of folders and shards"
    )
    manifest: Annotated[bool, For(("single", "video"))] = Field(
        True, description="record options, versions, hashes and times beside the result; folders always have a ledger"
    )

    limit: Annotated[int, For(("folders",))] = Field(
        0, ge=0, description="fuse only the first N pairs, each as in the whole run; 0: all"
    )
    dry_run: Annotated[bool, For(("folders",))] = Field(
        False, description="print what would be fused, with sizes, kind of scene and what is left out; write nothing"
    )
    review: Annotated[FilePath, For(("folders",)), When("dry_run", False)] = Field(
        "",
        description="page (.html) with small pictures of each pair and what was noticed, the doubtful ones first, at "
        f"most {REVIEWED}",
    )

    @field_validator("ext")
    @classmethod
    def _suffix(cls, value: str) -> str:
        return f".{value.lower().removeprefix('.')}"


class FileOptions(Options):
    """How files are read and written."""

    depth: Annotated[Literal["8", "16", "float"] | None, For(IMAGES)] = Field(
        None, description="depth of the result; by default the reference's"
    )
    range: Annotated[tuple[Range, ...], For(IMAGES)] = Field(
        ("auto",),
        description="black and white level of 16-bit and float sources: BLACK,WHITE as in 0,4095; full: the type's "
        "limits; auto: the type's limits, or the data's own range if that is under 1/8 of them; give once, or once per "
        "source",
    )
    bands: Annotated[tuple[Bands, ...], For(IMAGES)] = Field(
        (),
        description="the one or three bands to use of files with others than grey or RGB (multispectral images), "
        "numbered from 1, as in 4,3,2; give once, or once per source",
    )
    times: Annotated[tuple[float, ...], For(("single", "folders"), RADIANCE)] = Field(
        (),
        description="exposure times of the frames in seconds, in their order, as in 1/30,1/8,0.5: the result is the "
        "radiance of the bracket; by default those of the EXIF",
    )
    range_scope: Annotated[Literal["folder", "pair"], For(("folders", "shards"))] = Field(
        "folder", description="range that auto finds: one for all files of a folder, which avoids flicker, or one each"
    )
    save_transform: Annotated[FilePath, For(("single",))] = Field(
        "", description="file for the transforms that `align` finds in one set of images, for `transform` later"
    )
    readings: Annotated[bool, For(IMAGES)] = Field(
        False,
        description="write what grey sources of more than 8 bits measured, such as temperatures, beside the picture: "
        "fused.tif#2, fused.png#2; .tif and .png hold it",
    )
    save_depth: Annotated[FilePath, For(("single",))] = Field(
        "",
        description="image file for the depth of a focus stack, black at the nearest frame and white at the farthest",
    )
    save_aligned: Annotated[FilePath, For(("single",))] = Field(
        "", description="folder for all images of one set as `align` moves them, in their own depth and colours"
    )
    strip: Annotated[bool, For(IMAGES)] = Field(False, description="leave out metadata such as EXIF, GPS and XMP")
    quality: Annotated[int | None, For(IMAGES, written=True)] = Field(
        None, ge=1, le=100, description="quality of JPEG, by default 95, and of WebP, by default lossless"
    )
    png_level: Annotated[int, For(IMAGES, written=True)] = Field(1, ge=0, le=9, description="PNG compression")
    max_pixels: Annotated[int, For(IMAGES)] = Field(
        150_000_000, ge=1, le=10**11, description="refuse images of more pixels"
    )
    force: bool = Field(False, description="overwrite results, and redo finished ones")

    @field_validator("range", mode="before")
    @classmethod
    def _spans(cls, value: Any) -> Any:
        numbers = not isinstance(value, str) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
        alone = isinstance(value, str) or numbers
        return tuple(_span(item) for item in ([value] if alone else value)) or ("auto",)

    @field_validator("bands", mode="before")
    @classmethod
    def _chosen(cls, value: Any) -> Any:
        alone = isinstance(value, str) or (value and all(isinstance(v, int) for v in value))
        return tuple(_numbers(item) for item in ([value] if alone else value))

    @field_validator("times", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str | int | float) else value
        parts = [part for item in items for part in (item.split(",") if isinstance(item, str) else (item,))]
        try:
            seconds = tuple(float(Fraction(part.strip())) if isinstance(part, str) else float(part) for part in parts)
        except (TypeError, ValueError, ArithmeticError):
            seconds = (0.0,)
        if not all(1e-9 < second < 1e9 for second in seconds):
            raise ValueError("expected seconds above 0, as in 1/30,1/8,0.5")
        return seconds

    def record(self) -> dict[str, Any]:
        """The options that decide bytes of a result: for the manifest, and for the digest of the method."""
        return self.model_dump(mode="json", exclude=set(NEUTRAL))

    @property
    def reading(self) -> "Reading":
        """How sources are read."""
        from ..reading.ranges import Reading

        return Reading(self.range, self.bands, self.max_pixels, folder_scope=self.range_scope == "folder")


def _span(item: Any) -> Range:
    if item in ("auto", "full"):
        return item
    try:
        low, high = (float(part) for part in (item.split(",") if isinstance(item, str) else item))
    except (TypeError, ValueError):
        raise ValueError("expected BLACK,WHITE, as in 0,4095, auto or full") from None
    if not (high > low and math.isfinite(high - low)):
        raise ValueError("white must be above black, and both finite")
    return low, high


def _numbers(item: Any) -> Bands:
    try:
        numbers = tuple(int(part) for part in (item.split(",") if isinstance(item, str) else item))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise ValueError("expected one or three numbers of bands, from 1, as in 4,3,2")
    return numbers


def refuse_ignored(options: BaseModel, mode: Mode, suffix: str, read: Sequence[Mode]) -> None:
    """Raise NoEffect for an option that this kind of run, or results of this suffix, would ignore.

    read: the kinds of runs that read this model; its fields may narrow them by `For`.
    """
    from ..writing import written_with

    for name, info in type(options).model_fields.items():
        value = getattr(options, name)
        if value == info.get_default():
            continue
        narrowed = next((mark for mark in info.metadata if isinstance(mark, For)), For())
        modes = [m for m in read if not narrowed.modes or m in narrowed.modes]
        shown = f"`{name}={str(value).lower() if isinstance(value, bool) else word(value)}`"
        if mode not in modes:
            where = f"{'results of ' if mode != 'single' else ''}{WORDS[mode]}"
            words = " or ".join(WORDS[m] for m in modes)
            raise NoEffect(f"{shown} has no effect on {where}; it is read with {words}")
        formats = written_with(name) if narrowed.written and suffix else narrowed.formats
        if formats and suffix and suffix not in formats:
            raise NoEffect(f"{shown} has no effect on {suffix} files; it is read for {', '.join(formats)}")
