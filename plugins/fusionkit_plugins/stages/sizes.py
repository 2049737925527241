"""Stages that change sizes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from fusionkit.contracts import Options, Sources, Stage
from fusionkit.errors import OptionError, SizeMismatch
from fusionkit.memory import free_memory

MOST_PIXELS, MOST_SIDE = 150_000_000, 65_536  # of a working size
BYTES = 32  # a pixel and source, at least, that a working size takes


class Resize(Stage):
    """Sources of another size than the reference are resized to it: bicubic with a low-pass filter, clamped.

    Smaller ones are a coarser camera's, which the flow undoes first.
    """

    by_frame = True

    def degradations(self, sources: Sources) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """The reference's size, for sources that are smaller both ways."""
        height, width = sources.reference_luma.shape[-2:]
        smaller = [y.shape[-2] < height and y.shape[-1] < width for y in sources.luma]
        return [{"low_resolution": {"height": height, "width": width}} if small else {} for small in smaller]

    def before(self, sources: Sources) -> Sources:
        """All sources in the reference's size; a note for each that was resized."""
        sizes = [y.shape[-2:] for y in sources.luma]
        size = sizes[sources.reference]
        odd = [i for i in range(len(sources)) if sizes[i] != size]
        images = list(sources.images)
        for i in odd:
            sources.report.note(f"{sources.names[i]} resized from {_text(sizes[i])} to {_text(size)}")
            images[i] = F.interpolate(images[i], size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return sources.with_images(images) if odd else sources


class WorkingSizeOptions(Options):
    """Options of the stage `working_size`."""

    size: tuple[PositiveInt, PositiveInt] = Field(
        (768, 1024), description="height and width that the method sees, as in 768x1024"
    )

    @field_validator("size", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        if size is None:
            raise ValueError("expected HEIGHTxWIDTH, as in 768x1024")
        return size.groups()

    @field_validator("size")
    @classmethod
    def _not_too_large(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] * value[1] > MOST_PIXELS or max(value) > MOST_SIDE:
            raise ValueError(f"{value[0]}x{value[1]} has more than {MOST_PIXELS} pixels, or a side over {MOST_SIDE}")
        return value


class WorkingSize(Stage):
    """The method sees sources of a stated size; the result is resized back.

    Bicubic without a low-pass filter, and with its overshoots, as the field's codes resize to a network's size.
    """

    Options = WorkingSizeOptions
    by_frame = True
    options: WorkingSizeOptions

    def before(self, sources: Sources) -> Sources:
        """Images and lumas in the working size."""
        size = self.options.size
        sizes = [y.shape[-2:] for y in sources.luma]
        if len(set(sizes)) > 1:
            raise SizeMismatch(
                f"sources differ in size ({', '.join(map(_text, sizes))}), which a working size would hide; "
                "`resize=reference` resizes them first"
            )
        needed, free = BYTES * size[0] * size[1] * len(sources), free_memory()
        if free is not None and needed > free:
            raise OptionError(
                f"`working_size={size[0]}x{size[1]}` takes {needed / 1e9:.1f} GB at the very least, "
                f"{free / 1e9:.1f} GB are free; choose a smaller one"
            )
        return replace(
            sources,
            images=tuple(_bicubic(image, size) for image in sources.images),
            luma=tuple(_bicubic(y, size) for y in sources.luma),
        )

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The result in the size that the sources came in."""
        size = sources.reference_luma.shape[-2:]
        return image if image.shape[-2:] == size else _bicubic(image, size)


def _bicubic(image: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(image, tuple(size), mode="bicubic", align_corners=False)


def _text(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"
