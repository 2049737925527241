"""How near a result is to the fusion of the clean sources by the same method."""

import math

from torch import Tensor

from ..contracts import Metric, Options, Sources
from ..extras import DISTRIBUTION
from ..registry.loading import get_registry

ROUNDING = 1 / 12  # squared grey levels: the error of 8-bit files, below which none is told


class CleanFusion(Metric):
    """A metric of a result against the fusion of the clean sources, given in the sources' place."""

    def __init__(self, name: str, most: float = math.inf) -> None:
        super().__init__(Options())
        self.metric: Metric = get_registry().create("metric", f"{DISTRIBUTION}:{name}", {})
        self.definition = f"{name} of the 8-bit luma to the same method's fusion of the clean sources, nothing restored"
        self.range, self.version = self.metric.range, self.metric.version
        if most < math.inf:
            self.definition += f", dB; at most {most:.1f}, the error of rounding"
            self.range = (0.0, most)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """fused (B, 1, H, W), luma in [0, 1]; sources: the clean fusion alone -> (B,)."""
        return self.metric(fused, sources).clamp_max(self.range[1])


def clean_metrics() -> dict[str, Metric]:
    """PSNR, of equal images that of the rounding to 8 bits, so that they count in means, and SSIM; by name."""
    return {"clean.PSNR": CleanFusion("PSNR", 10 * math.log10(255**2 / ROUNDING)), "clean.SSIM": CleanFusion("SSIM")}
