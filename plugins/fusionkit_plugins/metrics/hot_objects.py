"""Hot objects of an infrared image, which the audit follows into the result."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.choice import quantile

# a hot pixel: deviations above the mean; quantile that it exceeds at least; level that suffices
DEVIATIONS, QUANTILE, CEILING = 2.0, 0.97, 250.0
RING = 4, 12  # pixels around an object that its surround lies in
LEAST_PIXELS = 12  # of an object, and of its surround
LEAST_CONTRAST = 10.0  # levels above the surround
DEFINITION = (
    "hot objects: connected parts of 12 pixels or more of the first source beside the reference above mean + 2 "
    "deviations, its 97th percentile at least, 250 at most, opened by 3x3, 10 levels above their surround; surround: "
    "the ring 4 to 12 pixels away that is not hot"
)


@dataclass(frozen=True)
class HotObject:
    """A hot object and its surround: masks within `window`."""

    window: tuple[slice, slice]
    inside: Tensor
    ring: Tensor

    def contrast_in(self, image: Tensor) -> float:
        """Levels by which the object exceeds its surround in an image (H, W)."""
        part = image[self.window]
        return float(part[self.inside].mean() - part[self.ring].mean())


def hot_mask(infrared: Tensor) -> Tensor:
    """Compact hot pixels of levels (H, W): thresholded, opened once by 3x3."""
    threshold = max(
        float(infrared.mean() + DEVIATIONS * infrared.std()), float(quantile(infrared[None, None], QUANTILE))
    )
    hot = (infrared >= min(threshold, CEILING)).float()[None, None]
    eroded = -F.max_pool2d(-F.pad(hot, (1, 1, 1, 1)), 3, 1)
    return F.max_pool2d(eroded, 3, 1, 1)[0, 0] > 0


def hot_objects(infrared: Tensor) -> list[HotObject]:
    """Connected parts of the hot mask of levels (H, W) that stand out from their surround."""
    from scipy.ndimage import binary_dilation, find_objects, label

    hot = hot_mask(infrared).cpu().numpy()
    labels, _ = label(hot)
    near, far = RING
    found = []
    for number, place in enumerate(find_objects(labels), start=1):
        y, x = (slice(max(0, s.start - far - 1), s.stop + far + 1) for s in place)
        inside = labels[y, x] == number
        # a square of 2 r + 1 as r dilations by 3x3
        outer, inner = (binary_dilation(inside, [[1] * 3] * 3, iterations=r) for r in (far, near))
        ring = outer & ~inner & ~hot[y, x]
        one = HotObject((y, x), torch.from_numpy(inside), torch.from_numpy(ring))
        if min(inside.sum(), ring.sum()) >= LEAST_PIXELS and one.contrast_in(infrared) >= LEAST_CONTRAST:
            found.append(one)
    return found
