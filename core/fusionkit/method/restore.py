"""Sources pass through the flow first: each is restored from its own degradation (`fusionkit.flow.restoring`).

The degradation that is estimated is noise: a source with noise of deviation s, y = x₀ + s ε, is a point of the flow's
path, with t = s / (1 + s). One evaluation of the velocity at that t gives its clean image: no noise is added, nothing
was trained on fusion, and sources without noise are left alone, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..contracts import Backbone, ColorSpace, Decoder, Memory, Sources
from ..errors import OptionError, PluginError
from ..flow.restoring import AdditiveNoise, restore
from ..images.convert import ChangedImages, StoredImages, image_rows
from ..memory import release_pages
from ..numerics.choice import all_finite
from ..numerics.noise import Noise, estimate_noise, stabilise, unstabilise
from ..numerics.precision import arithmetic
from ..numerics.strips import in_strips, strips
from ..sources import STILL
from ..timing import Stopwatch
from .config import Precision

__all__ = ["DEAD_ZONE", "Restored", "Restorer"]

TOGETHER = 2**20  # pixels that go through the flow at once
DEAD_ZONE = 1.5 / 255  # estimates below count as none: no clean photograph measured reaches it


@dataclass(frozen=True)
class Restored:
    """Noise of one source of one image, and the t it was cleaned at (0: not)."""

    source: str
    noise: Noise
    t: float = 0.0

    def note(self) -> str:
        """For the user."""
        kind = (
            "noise along rows"
            if self.noise.correlation
            else "noise that grows with light"
            if self.noise.slope
            else "noise"
        )
        done = "cleaned by the flow" if self.t > 0 else "left as it is: this backbone restores nothing"
        return f"{self.source}: {kind} of {255 * self.noise.level:.1f} levels, {done}"

    def record(self) -> dict[str, Any]:
        """For the manifest; levels of 255."""
        return {
            "source": self.source,
            "noise": round(255 * self.noise.level, 2),
            "slope": float(f"{self.noise.slope:.3g}"),
            "correlation": round(self.noise.correlation, 2),
            "t": round(self.t, 4),
        }


@dataclass
class _Plane:
    """A luma (channel 0) or chroma (1, 2) plane (H, W) of one source of one image, and its noise."""

    source: int
    image: int
    channel: int
    pixels: Tensor
    noise: Noise
    t: float = 0.0


@dataclass(frozen=True)
class Restorer:
    """Cleans sources by one evaluation of the flow.

    levels: "auto" estimates the noise of each source; "none" does nothing and says that there is none; numbers are the
    deviations of the sources' luma in levels of 255, one for all or one a source. Chroma follows where luma is noisy,
    at its own estimated level. precision: auto takes bfloat16 where the processor has it.
    Raises OptionError for numbers that a backbone without `restores` cannot serve.
    """

    backbone: Backbone
    decoder: Decoder
    color: ColorSpace
    levels: str
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse now what would fail at the first image."""
        limit = self.backbone.restores
        if self.given is not None and self._able:
            largest = 255 * limit / (1 - limit) / 2
            if max(self.given) * 255 > largest + 0.5:
                raise OptionError(
                    f"`restore={self.levels}`: this flow knows noise of up to {largest:.0f} levels; give less"
                )
        if self.given is not None and not self._able:
            raise OptionError(
                f"`restore={self.levels}`: this backbone restores nothing, or decodes with a loss; use `backbone=rf`, "
                "or `restore=none`"
            )

    @property
    def given(self) -> list[float] | None:
        """The levels that were given, in [0, 1]; None for auto and none."""
        return None if self.levels in ("auto", "none") else [float(v) / 255 for v in self.levels.split(",")]

    @property
    def _able(self) -> bool:
        one = self.backbone.channels in (None, 1)
        return self.backbone.restores > 0 and one and self.decoder.lossless and self.decoder.factor == 1

    def __call__(self, sources: Sources, watch: Stopwatch, memory: Memory = STILL) -> tuple[Sources, list[Restored]]:
        """The restored sources with the noise that each still has; a row for each that was noisy.

        memory: of a video's shot, whose noise is that of its first frame.
        """
        if self.levels == "none":
            return sources, []
        with watch.stage("noise"):
            planes = self._noisy(sources, memory)
        if not planes:
            return sources, []
        left = [y.new_zeros(len(y), 1, 1, 1) for y in sources.luma]
        if not self._able:
            for plane in planes:
                left[plane.source][plane.image] = plane.noise.level
            return replace(sources, noise=tuple(left)), [Restored(sources.names[p.source], p.noise) for p in planes]
        with watch.stage("noise"):
            planes += self._noisy_chroma(sources, planes)
        with watch.stage("restore"):
            cleaned = self._clean(planes)
        for plane, pixels in zip(planes, cleaned, strict=True):
            if plane.channel == 0:
                left[plane.source][plane.image] = estimate_noise(pixels[None, None])[0].level
        cleaned_at = [Restored(sources.names[p.source], p.noise, p.t) for p in planes if p.channel == 0]
        return replace(self._put_back(sources, planes, cleaned), noise=tuple(left)), cleaned_at

    def _noisy(self, sources: Sources, memory: Memory) -> list[_Plane]:
        """The luma planes whose noise is above the dead zone."""
        planes = []
        for i, luma in enumerate(sources.luma):
            every = memory.once(f"noise {i}", partial(self._noise, luma, i, len(sources)))
            for b, noise in enumerate(every):
                if noise.level >= DEAD_ZONE or (self.given is not None and noise.level > 0):
                    planes.append(_Plane(i, b, 0, luma[b, 0], noise))
        return planes

    def _noise(self, luma: Tensor, source: int, count: int) -> Sequence[Noise]:
        if self.given is None:
            return estimate_noise(luma)
        if len(self.given) not in (1, count):
            raise OptionError(f"`restore={self.levels}`: {len(self.given)} levels for {count} sources")
        level = self.given[min(source, len(self.given) - 1)]
        return [Noise(level, 0.0, level**2)] * len(luma)

    def _noisy_chroma(self, sources: Sources, lumas: Sequence[_Plane]) -> list[_Plane]:
        """The chroma planes, shifted to mid-grey, of sources whose luma is noisy, if their noise is above the zone."""
        planes = []
        for p in lumas:
            for c, pixels in enumerate(self._chroma(sources, p.source, p.image)):
                noise = estimate_noise(pixels.clamp(0, 1)[None, None])[0]
                if noise.level >= DEAD_ZONE:
                    level = Noise(noise.level, 0.0, noise.level**2)
                    planes.append(_Plane(p.source, p.image, c + 1, pixels, level))
        return planes

    def _chroma(self, sources: Sources, source: int, image: int) -> Sequence[Tensor]:
        """The chroma planes (H, W) of one image, shifted to mid-grey; none where it has none."""
        height, width = sources.luma[source].shape[-2:]
        found: list[Tensor] = []
        for part in strips(height, width, 0):
            chroma = self.color.split(image_rows(sources.images, source, part.place)[image : image + 1])[1]
            if chroma is None:
                return []
            found = found or [chroma.new_empty(height, width) for _ in chroma[0]]
            for plane, rows in zip(found, chroma[0], strict=True):
                torch.add(rows, 0.5, out=plane[part.place])
        return found

    def _clean(self, planes: Sequence[_Plane]) -> list[Tensor]:
        """All planes, one evaluation of each: (H, W). In chunks, so memory does not grow with their number."""
        height, width = planes[0].pixels.shape
        count = max(1, TOGETHER // (height * width))
        cleaned = []
        for i in range(0, len(planes), count):
            cleaned += self._clean_some(planes[i : i + count])
            if height * width > TOGETHER:
                release_pages()  # the network's
        return cleaned

    def _clean_some(self, planes: Sequence[_Plane]) -> list[Tensor]:
        device, (height, width) = planes[0].pixels.device, planes[0].pixels.shape
        stable = [stabilise(p.pixels, p.noise) for p in planes]
        s = torch.tensor([deviation for _, deviation in stable], device=device)
        ends = self.decoder.encode(torch.tensor([0.0, 1.0], device=device).view(2, 1, 1, 1)).flatten()
        noise = AdditiveNoise(s * (ends[1] - ends[0]), self.backbone.restores)
        for plane, time in zip(planes, noise.time.tolist(), strict=True):
            plane.t = time
        y = torch.stack([pixels for pixels, _ in stable])[:, None]
        del stable
        x0 = restore(self.decoder.encode(y), noise, self._velocity)
        clean = self.decoder.decode(x0, (height, width))[:, 0]
        del x0, y
        back = [partial(unstabilise, noise=p.noise) for p in planes]
        return [in_strips(f, pixels[None, None], reach=0)[0, 0] for f, pixels in zip(back, clean, strict=True)]

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The backbone's field, checked."""
        with arithmetic(x.device, self.precision, cleaning=True):
            v = self.backbone.velocity(x, t).float()
        if v.shape != x.shape or not all_finite(v):
            name = f"{type(self.backbone).__module__}.{type(self.backbone).__name__}.velocity"
            raise PluginError(
                f"{name} returned shape {tuple(v.shape)} for {tuple(x.shape)}, or values that are not finite"
            )
        return v

    def _put_back(self, sources: Sources, planes: Sequence[_Plane], cleaned: Sequence[Tensor]) -> Sources:
        """Sources with the cleaned planes in their places; images without a cleaned plane keep their bits."""
        found: dict[tuple[int, int], dict[int, Tensor]] = {}
        for p, pixels in zip(planes, cleaned, strict=True):
            found.setdefault((p.source, p.image), {})[p.channel] = pixels
        changed, lumas = {i for i, _ in found}, list(sources.luma)
        for i in changed:
            lumas[i] = lumas[i].clone()
        for (i, b), mine in found.items():
            lumas[i][b, 0] = mine.pop(0).clamp(0, 1)
        height, width = lumas[0].shape[-2:]
        reach = height if self.color.reach is None else self.color.reach
        clean = replace(sources, luma=tuple(lumas))

        def made(i: int, b: int, rows: slice) -> Tensor:
            first, last, _ = rows.indices(height)
            wide = slice(max(0, first - reach), min(height, last + reach))
            image, luma = image_rows(clean.images, i, wide)[b : b + 1], lumas[i][b : b + 1, :, wide]
            merged = self._merged(clean, image, luma, found[i, b], wide)
            return merged[..., first - wide.start : last - wide.start, :].clamp(0, 1)

        if isinstance(sources.images, StoredImages):
            images: Sequence[Tensor] = ChangedImages(sources.images, changed, lambda i, rows: made(i, 0, rows))
        else:
            images = [image.clone() if i in changed else image for i, image in enumerate(sources.images)]
            for i, b in found:
                for part in strips(height, width, self.color.reach):
                    images[i][b : b + 1, :, part.place] = made(i, b, part.place)
            images = tuple(images)
        return replace(clean, images=images)

    def _merged(self, sources: Sources, image: Tensor, luma: Tensor, cleaned: dict[int, Tensor], rows: slice) -> Tensor:
        """These rows of one image with its clean luma, and the chroma that was cleaned."""
        chroma = self.color.split(image)[1]
        if chroma is not None:
            chroma = chroma.clone()
            for c in range(chroma.shape[1]):
                if c + 1 in cleaned:
                    chroma[0, c] = cleaned[c + 1][rows] - 0.5
        count = len(sources)
        # its colour is nobody else's
        alone = replace(sources, images=(image,) * count, luma=(luma,) * count, known_scenes=(), whole=None)
        merged = self.color.merge(luma, [chroma] * count, alone)
        return merged if merged.shape[1] == image.shape[1] else luma
