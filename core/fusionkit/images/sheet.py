"""Contact sheets: labelled images side by side."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .picture import Array

LINE, GAP = 18, 4
FIELDS = 8  # fields of a checkerboard along the longer side
BACKGROUND = 24


def contact_sheet(panels: Sequence[tuple[str, Array]], columns: int) -> Array:
    """Labelled panels, each (H, W, 1 or 3) float in [0, 1] and of one size -> one (H', W', 3) float image.

    Labels may have several lines.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = panels[0][1].shape[:2]
    bar = GAP + LINE * max(label.count("\n") + 1 for label, _ in panels)
    rows = -(-len(panels) // columns)
    columns = min(columns, len(panels))
    size = (columns * (width + GAP) + GAP, rows * (height + bar + GAP) + GAP)
    sheet = Image.new("RGB", size, (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for index, (label, pixels) in enumerate(panels):
        left = GAP + (index % columns) * (width + GAP)
        top = GAP + (index // columns) * (height + bar + GAP)
        for number, line in enumerate(label.splitlines()):
            draw.text((left + 2, top + 2 + LINE * number), line, fill=(235, 235, 235), font=font)
        levels = np.round(np.broadcast_to(pixels, (height, width, 3)) * 255).astype(np.uint8)
        sheet.paste(Image.fromarray(levels), (left, top + bar))
    return np.asarray(sheet, dtype=np.float32) / 255


def sized(image: Tensor, size: Sequence[int]) -> Tensor:
    """The image (B, C, H, W) in this height and width."""
    same = image.shape[-2:] == tuple(size)
    return image if same else F.interpolate(image, tuple(size), mode="bilinear", antialias=True)


def smaller(image: Tensor, width: int) -> Tensor:
    """The image (B, C, H, W), at most `width` pixels wide: means of areas."""
    height, wide = image.shape[-2:]
    if wide <= width:
        return image
    return F.interpolate(image, size=(max(1, round(height * width / wide)), width), mode="area")


def checkerboard(first: Tensor, second: Tensor) -> Tensor:
    """Take fields of an image (B, 1 or 3, H, W) and of another in turns; edges that agree run on across them."""
    height, width = first.shape[-2:]
    field = -(-max(height, width) // FIELDS)
    row, column = (torch.arange(n, device=first.device) // field for n in (height, width))
    return torch.where((row[:, None] + column) % 2 == 0, first, second)
