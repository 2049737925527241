"""Trainer of `darkness` (`fusionkit train darkness`), on rendered pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.errors import InputError
from fusionkit.images.convert import to_tensor
from fusionkit.numerics.luma import luma
from fusionkit.options import WeightsName, When
from fusionkit.reading import read_image
from fusionkit.training.data import hold_out, list_images
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions
from fusionkit.weights.network import Network

from .affine_grid import AffineGrid, AffineGridConfig
from .rendering import Rendered, darkened

LARGEST = 1.5  # longest a copy's shorter side is beside the crops
WELL_EXPOSED = 0.25, 0.7  # mean brightness of photographs that a dark picture is opened to
STRIDE = 2  # every second pixel each way is compared


class _Copies:
    """Small copies of whole photographs in memory as bytes; some are held out, spread over the names."""

    def __init__(self, folders: Sequence[Path], options: TrainOptions) -> None:
        held_out, self.paths = hold_out(list_images(folders), options.held_out)
        self.held_out_paths = list(held_out)
        self.held_out = [_copy(path, options.crop, 1.0) for path in self.held_out_paths]
        self._copies = [(255 * _copy(path, options.crop, LARGEST)).round().byte() for path in self.paths]

    def keep(self, suits: Callable[[Tensor], bool]) -> None:
        """Leave out photographs that do not suit; copies (1, 3, H, W) in [0, 1] are judged."""
        kept = [i for i, copy in enumerate(self._copies) if suits(copy.float() / 255)]
        self.paths, self._copies = [self.paths[i] for i in kept], [self._copies[i] for i in kept]
        held = [i for i, copy in enumerate(self.held_out) if suits(copy)]
        self.held_out_paths, self.held_out = [self.held_out_paths[i] for i in held], [self.held_out[i] for i in held]

    def batch(self, count: int, crop: int, grey: float, generator: torch.Generator) -> Tensor:
        """Draw squares (count, 3, crop, crop) in [0, 1] that show most of a photograph, some mirrored, some grey."""
        chosen = torch.randint(len(self._copies), (count,), generator=generator).tolist()
        crops = []
        for i, (size, y, x, mirror, color) in zip(
            chosen, torch.rand(count, 5, generator=generator).tolist(), strict=True
        ):
            copy = self._copies[i]
            side = int(min(copy.shape[-2:]) * (1 - size / 3))
            side = max(side, min(crop, *copy.shape[-2:]))
            top, left = (int(place * (n - side + 1)) for place, n in zip((y, x), copy.shape[-2:], strict=True))
            cut = F.adaptive_avg_pool2d(copy[..., top : top + side, left : left + side].float() / 255, crop)
            cut = cut.flip(-1) if mirror < 0.5 else cut
            crops.append(luma(cut).expand_as(cut) if color < grey else cut)
        return torch.cat(crops)


def _copy(path: Path, crop: int, largest: float) -> Tensor:
    """A picture whose shorter side has at most `largest` times `crop` pixels, (1, 3, H, W)."""
    pixels = to_tensor(read_image(path).pixels)
    if min(pixels.shape[-2:]) < crop:
        raise InputError(f"{path}: {pixels.shape[-1]}x{pixels.shape[-2]} is smaller than the crops ({crop})")
    factor = min(1.0, largest * crop / min(pixels.shape[-2:]))
    height, width = (round(n * factor) for n in pixels.shape[-2:])
    return F.adaptive_avg_pool2d(pixels.expand(1, 3, -1, -1), (height, width))


class DarknessTrainerOptions(Options):
    """Options of the trainer of `darkness`."""

    architecture: Annotated[AffineGridConfig, When("weights", "")] = Field(
        AffineGridConfig(), description="the network; of weights to start from, theirs"
    )
    weights: WeightsName = Field("", description="weights to start from")
    clean: float = Field(0.2, ge=0, le=1, description="share of pictures that are clean and are to stay as they are")
    whole: float = Field(0.7, ge=0, le=1, description="share of pictures at t = 1; the others lie on the path to clean")


class DarknessTrainer(Trainer):
    """min |x₀ - x̂₀(x_t, t)| + colour, x_t = (1 - t) x₀ + t y, y rendered from the photograph x₀.

    The path of a rectified flow that ends at the degraded picture in the place of noise; the velocity is (x_t - x̂₀) / t
    (Delbracio & Milanfar, "Inversion by direct iteration", TMLR 2023). Colour: 1 - cosine of the angle of RGB.
    Photographs that are dark themselves are no goal, and are left out.
    """

    Options = DarknessTrainerOptions
    kind = "degradation darkness"
    module: AffineGrid

    def __init__(self, options: DarknessTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options, self.module = options, AffineGrid(options.architecture)
        if options.weights:
            begun = Network(options.weights, AffineGrid, AffineGridConfig, kind=self.kind, otherwise="none are needed")
            self.module = begun.module.requires_grad_(True)

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = False) -> None:
        """Read small copies of those photographs that are well exposed."""
        self.data, (least, most) = _Copies(folders, options), WELL_EXPOSED
        self.data.keep(lambda x: least < float(luma(x).mean()) < most)

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Rendered:
        """Render pictures; a share stays clean."""
        photographs = self.data.batch(options.batch, options.crop, options.grey, generator)
        rendered = darkened(photographs, generator, pixel=0.3)
        stays = torch.rand(len(photographs), 1, 1, 1, generator=generator) < self.options.clean
        y, x = (torch.where(stays, rendered.clean, part).to(self.device) for part in rendered[:2])
        return Rendered(y, x, x)

    def loss(self, batch: Rendered, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss above on every second pixel each way."""
        t, which = torch.rand(2, len(batch.x), generator=generator)
        t = torch.where(which < self.options.whole, 1.0, t.clamp_min(0.05)).to(self.device)
        x_t = batch.x + t.view(-1, 1, 1, 1) * (batch.y - batch.x)
        off = int(torch.randint(STRIDE, (1,), generator=generator))
        estimate, wanted = _estimate(self.module, x_t, t, off), batch.x[..., off::STRIDE, off::STRIDE]
        difference = (estimate - wanted).abs().mean(dim=(1, 2, 3))
        angle = (1 - F.cosine_similarity(estimate + 0.02, wanted + 0.02, dim=1)).mean(dim=(1, 2))
        same = (batch.x == batch.y).flatten(1).all(1)
        figures = {"angle": float(angle.mean().detach())}
        for name, which_ones in (("difference", ~same), ("clean", same)):
            if which_ones.any():
                figures[name] = float(difference[which_ones].mean().detach())
        return (difference + angle).mean(), figures

    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """Measure PSNR in dB of held-out pictures, rendered four times each at t = 1, before and after; and clean."""
        generator, found = torch.Generator().manual_seed(0), dict[str, list[float]]()
        for x in held_out:
            x = x[..., : x.shape[-2] // 16 * 16, : x.shape[-1] // 16 * 16]  # noqa: PLW2901
            rendered = [darkened(x.cpu(), generator, pixel=0.3) for _ in range(4)]
            for name, (y, wanted) in [*(("", r[:2]) for r in rendered), ("clean", (x, x))]:
                wanted = wanted.to(self.device)  # noqa: PLW2901
                estimate = _estimate(module, y.to(self.device), torch.ones(1, device=self.device), 0)
                found.setdefault(name or "psnr", []).append(_psnr(estimate, wanted[..., ::STRIDE, ::STRIDE]))
                if not name:
                    found.setdefault("before", []).append(_psnr(y.to(self.device), wanted))
        return {name: sum(values) / len(values) for name, values in found.items()}


def _estimate(module: Any, x_t: Tensor, t: Tensor, off: int) -> Tensor:
    """Estimate x₀ at every second pixel each way, from `off`."""
    height, width = x_t.shape[-2:]
    y, x = (2 * (torch.arange(off, n, STRIDE, device=x_t.device) + 0.5) / n - 1 for n in (height, width))
    return module(x_t, t)(x_t[..., off::STRIDE, off::STRIDE], y, x)


def _psnr(x: Tensor, wanted: Tensor) -> float:
    return float(-10 * torch.log10((x.clamp(0, 1) - wanted).square().mean().clamp_min(1e-7)))
