"""Pictures of files as a method takes them: one range, one colour profile, one grid; and the result as a picture."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..contracts import ShotMemory
from ..errors import OptionError, SizeMismatch
from ..images.colour import in_profile
from ..images.convert import StoredImages, to_array, to_tensor
from ..images.metadata import CameraSettings
from ..images.onto import onto
from ..images.picture import Picture
from ..memory import release_pages
from ..scene import bracketed
from ..timing import Stopwatch
from .frames import Series
from .result import FusedPicture, with_gaps
from .sampler import Callback
from .tiling import WHOLE_PIXELS

if TYPE_CHECKING:
    from .pipeline import Pipeline


def fuse_at_once(
    pipeline: "Pipeline",
    pictures: Sequence[Picture],
    *,
    reference: int | None = None,
    callback: Callback | None = None,
    shot: ShotMemory | None = None,
) -> FusedPicture:
    """Fuse pictures that are all in memory; arguments as of `Pipeline.fuse_pictures`."""
    pictures = pictures.whole() if isinstance(pictures, Series) else pictures
    watch = Stopwatch()
    index = pipeline.reference_in(pictures) if reference is None else reference
    pictures, converted = in_profile(pipeline.ranged(pictures), index)
    main = pictures[index]
    given = pictures
    pictures, placed = onto(pictures, index)
    try:
        fused = pipeline.run(
            images_of(pictures, pipeline.device),
            reference=index,
            names=[p.name for p in pictures],
            degraded=[p.degraded for p in pictures],
            views=views_of(given, pictures),
            spans=[p.span for p in pictures],
            settings=[p.settings for p in given],
            valid=[None if p.valid is None else torch.from_numpy(p.valid)[None, None] for p in pictures],
            callback=callback,
            watch=watch,
            shot=shot,
        )
    except SizeMismatch as error:
        said, turned = [str(error), *(p.note for p in placed)], [p.name for p in pictures if p.turned]
        said += [f"EXIF orientation was applied to {' and '.join(turned)}"] if turned else []
        raise SizeMismatch("; ".join(said)) from None
    others = [p for p in pictures if p.alpha is not None and p is not main]
    main = main.part(*fused.cut) if fused.cut else main
    notes = [*notes_of(pictures, index), *main.notes, *converted, *(p.note for p in placed), *fused.notes]
    found = {**fused.facts.found, **({"placed": [p.row for p in placed]} if placed else {})}
    if main.alpha is not None:
        notes.append(f"alpha kept from {main.name}")
    notes += [f"alpha of {p.name}: no data where it is 0, the rest counts in full" for p in others]
    picture = replace(with_gaps(main, to_array(fused.image)), notes=tuple(notes))
    if picture.size[0] * picture.size[1] > WHOLE_PIXELS:
        release_pages()  # the method's, before an encoder takes its own
    return FusedPicture.of(
        picture, replace(fused.facts, notes=notes, reference=index, found=found, seconds=watch.rounded())
    )


def images_of(pictures: Sequence[Picture], device: torch.device) -> Sequence[Tensor]:
    """Tensors of pictures; of large ones each is made when it is needed."""
    if max(p.size[0] * p.size[1] for p in pictures) > WHOLE_PIXELS:
        release_pages()  # a decoder's
        return StoredImages(pictures, device)
    return [to_tensor(p.pixels).contiguous() for p in pictures]  # plane by plane: luma takes half as long


def reference_of(colorful: Sequence[bool], stated: int = 0, settings: Sequence[CameraSettings] = ()) -> int:
    """Index of the reference source: the stated one, from 1, the only one with colour, the middle exposure, the last.

    settings: what the camera of each wrote, where it takes colour.
    """
    count = len(colorful)
    if stated > count:
        raise OptionError(f"`reference={stated}`, but there are only {count} sources")
    if stated:
        return stated - 1
    if sum(colorful) == 1:
        return list(colorful).index(True)
    middle = bracketed(settings) if any(colorful) else None
    return count - 1 if middle is None else middle


def views_of(given: Sequence[Picture], pictures: Sequence[Picture]) -> list[float | None]:
    """Fields of view that files state; None of those that `onto` resampled, which see what the reference sees."""
    return [one.view if one is before else None for before, one in zip(given, pictures, strict=True)]


def notes_of(pictures: Sequence[Picture], but: int | None = None) -> list[str]:
    """Notes of the pictures, with their names; without those of picture `but`."""
    return [type(note)(f"{p.name}: {note}") for i, p in enumerate(pictures) if i != but for note in p.notes]
