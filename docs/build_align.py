"""Makes the picture of docs/align.md: python docs/build_align.py. The scene is rendered."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from fusionkit.images.transforms import about_centre
from fusionkit.numerics.homography import square, warp
from fusionkit.scenes import infrared_visible

SIZE, GIVEN = (300, 400), (200, 260)  # of the reference and of the source
MATRIX = np.array([[0.9, 0.05, -45.0], [-0.04, 0.92, -28.0], [0.0, 0.0, 1.0]])  # the page prints it
POINT = (172, 177)
GAP, TOP = 40, 28
YELLOW, WHITE, GREY = (255, 214, 0), (255, 255, 255), (90, 90, 90)


def picture() -> Image.Image:
    """A reference, a source that sees less of it, and one pixel of both."""
    heat, visible = (np.asarray(x, np.float32) for x in infrared_visible(SIZE, seed=11))
    there = square(torch.from_numpy(about_centre(MATRIX, SIZE, GIVEN))).inverse()
    source = warp(torch.from_numpy(heat)[..., 0][None, None], there, GIVEN)[0][0, 0].numpy()
    canvas = Image.new("RGB", (SIZE[1] + GAP + GIVEN[1] + 20, SIZE[0] + TOP + 44), WHITE)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    right = SIZE[1] + GAP
    for image, left, title in (
        (visible, 0, "reference: visible.png, 400x300"),
        (source, right, "thermal.png, 260x200"),
    ):
        shown = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
        canvas.paste(Image.fromarray(shown).convert("RGB"), (left, TOP))
        draw.text((left + 4, 5), title, fill=(0, 0, 0), font=font)
        draw.text((left + 6, TOP + 4), "(0, 0), x to the right, y down", fill=YELLOW, font=font)
    corners = [(0, 0), (GIVEN[1] - 1, 0), (GIVEN[1] - 1, GIVEN[0] - 1), (0, GIVEN[0] - 1)]
    seen = [_mapped(np.linalg.inv(MATRIX), corner) for corner in corners]
    draw.polygon([(x, y + TOP) for x, y in seen], outline=YELLOW, width=2)
    other = _mapped(MATRIX, POINT)
    for (x, y), left in ((POINT, 0), (other, right)):
        at = (left + x, TOP + y)
        draw.ellipse((at[0] - 5, at[1] - 5, at[0] + 5, at[1] + 5), outline=YELLOW, width=2)
        draw.text((at[0] + 9, at[1] - 9), f"({x:.0f}, {y:.0f})", fill=YELLOW, font=font)
    text = f"matrix · {(*POINT, 1)} = ({other[0]:.0f}, {other[1]:.0f}, 1)      yellow frame: what the source sees"
    draw.text((4, TOP + SIZE[0] + 14), text, fill=GREY, font=font)
    return canvas


def _mapped(matrix: np.ndarray, point: tuple[float, float]) -> tuple[float, float]:
    x, y, depth = matrix @ [*point, 1.0]
    return float(x / depth), float(y / depth)


if __name__ == "__main__":
    picture().save(Path(__file__).with_name("gallery") / "transform.jpg", quality=90)
