"""A stage that shows what is hot in the colours of a thermal camera, with a legend."""

import math
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from fusionkit.contracts import Options, Sources, Stage
from fusionkit.errors import OptionError
from fusionkit.images.convert import image_rows
from fusionkit.numerics.luma import luma
from fusionkit.numerics.strips import strips

from ..palettes import PALETTES, colours_of

COLD = 0.3  # share of a palette, its dark end, that is left out: over a picture it looks like shade, not like heat
RISE = 0.1  # share of the range in which colours set in, so that they draw no hard edge where nothing ends
LEAST_SIDE = 100  # pixels of a side that a legend needs
BAR, TEXT, DIM = 0.4, 1 / 28, 0.6  # height of the legend and of its numbers, in sides; how far it darkens the picture


class PaletteOptions(Options):
    """Options of the stage `palette`."""

    palette: str = Field(
        "", description=f"NAME:LOW,HIGH: a palette ({', '.join(PALETTES)}), and the values of its ends"
    )

    @model_validator(mode="after")
    def _parsed(self) -> Self:
        if not self.palette:  # refused by the stage
            return self
        name, _, ends = self.palette.partition(":")
        if name not in PALETTES:
            raise ValueError(
                f"{self.palette!r}: expected NAME:LOW,HIGH with one of {', '.join(PALETTES)}, as in iron:30,90"
            )
        try:
            low, high = (float(end) for end in ends.split(","))
            sound = high > low and math.isfinite(high - low)
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"{self.palette}: expected two values, the lower first, as in {name}:30,90")
        return self

    @property
    def name(self) -> str:
        """The palette."""
        return self.palette.partition(":")[0]

    @property
    def ends(self) -> tuple[float, float]:
        """The values of its first and last colour."""
        low, high = self.palette.partition(":")[2].split(",")
        return float(low), float(high)


class Palette(Stage):
    """Where the one grey source beside the reference is above LOW, the result has the colours of a palette.

    Values are the source's own (`Sources.spans`): degrees of a file of degrees, counts, or levels of 8 bits. From a
    tenth of the range on the colours are those of the legend, which is drawn into the corner where least is hot, within
    what `crop` leaves; values above HIGH have the last colour. Before, they set in. The source is as it is fused:
    aligned and restored, within its range.
    """

    Options = PaletteOptions
    options: PaletteOptions

    def __init__(self, options: PaletteOptions) -> None:
        super().__init__(options)
        if not options.palette:
            raise OptionError("stage palette needs `palette`, as in iron:30,90")

    def before(self, sources: Sources) -> Sources:
        """The same sources, once it is known which of them is coloured."""
        self._index(sources)
        return sources

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The result (B, 3, H, W) with colours and a legend."""
        index, (height, width) = self._index(sources), image.shape[-2:]
        black, white = sources.spans[index]
        low, high = ((end - black) / (white - black) for end in self.options.ends)
        colours = torch.from_numpy(colours_of(self.options.name, first=COLD)).to(image)
        image = image if image.shape[1] == 3 else image.repeat(1, 3, 1, 1)
        hot, valid = image.new_empty(len(image), 1, height, width), sources.valid[index]
        if valid is not None and valid.shape[-2:] != hot.shape[-2:]:  # a stage has resized its source
            valid = F.interpolate(valid.float(), hot.shape[-2:], mode="nearest") > 0.5
        for part in strips(height, width, reach=0):
            value = (luma(image_rows(sources.images, index, part.place)) - low) / (high - low)
            share = value.div(RISE).clamp_(0, 1)
            share = share if valid is None else share * valid[..., part.place, :]
            at = (value.clamp_(0, 1) * (len(colours) - 1)).round_().long()
            rows = image[..., part.place, :]
            rows.lerp_(colours[at[:, 0]].movedim(3, 1), share)
            hot[..., part.place, :] = share
        if not bool(hot.any()):
            sources.report.note(
                f"{sources.names[index]}: nothing is above {self.options.ends[0]:g}, where `palette` begins; its range "
                f"is {black:g} to {white:g}"
            )
        self._draw_legend(image, hot, sources)
        return image

    def _index(self, sources: Sources) -> int:
        """The source that is coloured. Raises OptionError where there are several, or none."""
        grey = [i for i in range(len(sources)) if i != sources.reference and not bool(sources.colored[i].any())]
        if len(grey) != 1:
            found = "none" if not grey else " and ".join(sources.names[i] for i in grey)
            raise OptionError(f"`palette` colours the one grey source beside the reference; here it is {found}")
        return grey[0]

    def _draw_legend(self, image: Tensor, hot: Tensor, sources: Sources) -> None:
        """Draw a scale into the corner of each image where least is hot."""
        height, width = image.shape[-2:]
        rows, columns = sources.cut or (slice(0, height), slice(0, width))
        size = rows.stop - rows.start, columns.stop - columns.start
        if min(size) < LEAST_SIDE:
            sources.report.note(f"no legend: a side is below {LEAST_SIDE} px")
            return
        patch, cover = (torch.from_numpy(x).to(image) for x in _legend(self.options, min(size)))
        high, wide = cover.shape
        if wide * 2 > size[1]:
            sources.report.note("no legend: its numbers are too long for the picture")
            return
        tops, lefts = (rows.start, rows.stop - high), (columns.start, columns.stop - wide)
        for one, share in zip(image, hot, strict=True):
            corners = [(slice(t, t + high), slice(x, x + wide)) for x in reversed(lefts) for t in reversed(tops)]
            corner = min(corners, key=lambda box: float(share[(..., *box)].mean()))
            one[(..., *corner)] = torch.lerp(one[(..., *corner)], patch, cover)


def _legend(options: PaletteOptions, side: int) -> tuple[Any, Any]:
    """Colours (3, h, w) of a legend for a picture of a shorter side, and how far they cover it (h, w)."""
    from PIL import Image, ImageDraw, ImageFont

    low, high = options.ends
    text = max(10, round(TEXT * side))
    pad, bar, thick = text // 2, round(BAR * side), max(6, text)
    font = ImageFont.load_default(text)
    values = [f"{value:.6g}" for value in (high, (low + high) / 2, low)]
    wide = max(math.ceil(font.getlength(value)) for value in values)
    picture = Image.new("RGB", (3 * pad + thick + wide, bar + 2 * pad + text))
    cover = Image.new("L", picture.size, round(255 * DIM))
    top, scale = pad + text // 2, np.rint(255 * colours_of(options.name, bar, COLD)[::-1, None]).astype(np.uint8)
    picture.paste(Image.fromarray(np.repeat(scale, thick, 1)), (pad, top))
    cover.paste(255, (pad, top, pad + thick, top + bar))
    for i, value in enumerate(values):
        place = 2 * pad + thick, top + i * bar // 2
        for canvas, ink in ((picture, "white"), (cover, 255)):
            ImageDraw.Draw(canvas).text(place, value, fill=ink, font=font, anchor="lm")
    unit = (np.asarray(x, np.float32) / 255 for x in (picture, cover))
    colours, covered = unit
    return np.ascontiguousarray(colours.transpose(2, 0, 1)), covered
