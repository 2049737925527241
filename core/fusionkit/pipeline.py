"""Sources in, one image out: builds the plug-ins once and fuses any number of times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import PipelineConfig
from .contracts import Backbone, ColorSpace, Decoder, Plugin, Prior, Sources
from .errors import InputError, OptionError, SizeMismatch
from .fold import FoldedPrior
from .images import Depth, Picture
from .intake import take, to_array, to_tensor
from .luma import colorful, luma, rounded_luma
from .registry import get_registry, validate_options
from .sampler import Callback, Sampler, SamplerOptions
from .tiling import TiledBackbone, TiledDecoder
from .timing import Stopwatch

__all__ = ["FusedPicture", "Pipeline", "is_colorful", "output_depth"]

TILE = 512
# the choices beside the plug-ins that decide pixels
DECIDING = ("sampler", "seed", "reference", "resize", "luma", "working_size", "stretch", "levels", "tile")
WHOLE_PIXELS = 1_500_000  # up to here the networks see the whole image: under 2 GB with the shipped weights


@dataclass(frozen=True)
class FusedPicture:
    """A result and where it comes from: index of the reference source, seconds a stage."""

    picture: Picture
    reference: int
    seconds: dict[str, float]


class Pipeline:
    """A configured method, ready to fuse.

    device: "auto" takes CUDA, then Apple's MPS, then the CPU. Same seed, machine and options: same bytes.
    """

    def __init__(self, config: PipelineConfig | None = None, *, device: str = "auto") -> None:
        self.config = c = config or PipelineConfig()
        self.device = _device(device)
        registry = get_registry()
        self.plugins: dict[str, Any] = {}
        self.prior: Prior = self._create("prior", c.prior, c.prior_options)
        self.color: ColorSpace = self._create("color-space", c.color, c.color_options)
        self.backbone: Backbone = self._create("backbone", c.backbone, c.backbone_options)
        decoder, options = c.decoder or self.backbone.decoder, c.decoder_options
        if c.decoder is None:
            options = {**self.backbone.decoder_options, **options}
        self.decoder: Decoder = self._create("decoder", decoder, options)
        self.origins = {kind: registry.find(kind, name).origin for kind, (name, _) in self.plugins.items()}
        self._check_domains(decoder)
        if c.luma == "rounded" and not self.color.bt601:
            raise OptionError(f"luma=rounded is BT.601's, color {c.color} has another; use ycbcr or gray")
        self.sampling = self._sampling()
        self._sampler(self.prior, tile=0, watch=None)  # refuses impossible combinations now, not at the first image

    def _create(self, kind: str, name: str, options: dict[str, Any]) -> Any:
        plugin = get_registry().create(kind, name, options)
        if isinstance(plugin, nn.Module):
            plugin = plugin.to(self.device).requires_grad_(False).eval()
        self.plugins[kind] = (name, plugin)
        return plugin

    def _sampling(self) -> SamplerOptions:
        """The sampler's options: the user's, and the prior's own where the user chose none."""
        chosen = {name: getattr(self.config.sampler, name) for name in self.config.sampler.model_fields_set}
        own = dict(self.prior.sampling)
        if chosen.get("solver", "euler") != "euler":
            own.pop("eta", None)  # fresh noise is euler's
        sampling: SamplerOptions = validate_options(
            SamplerOptions, {**own, **chosen}, f"sampling of prior {self.config.prior}"
        )
        return sampling

    def _check_domains(self, decoder: str) -> None:
        name, b, d = self.config.backbone, self.backbone, self.decoder
        if b.domain == "latent" and d.channels is None:
            raise OptionError(f"backbone {name} works on latents, decoder {decoder} gives none; use {b.decoder}")
        if b.domain == "pixel" and d.channels is not None:
            raise OptionError(f"backbone {name} works on pixels, decoder {decoder} gives latents; use identity")
        if None not in (b.channels, d.channels) and b.channels != d.channels:
            raise OptionError(
                f"backbone {name} expects latents of {b.channels} channels, decoder {decoder} gives {d.channels}"
            )

    def method(self) -> dict[str, Any]:
        """All that decides the pixels apart from the sources, with every default filled in."""
        config = {**self.config.model_dump(mode="json"), "sampler": self.sampling.model_dump(mode="json")}
        return {
            "plugins": {
                kind: {"name": name, "from": self.origins[kind], "options": _dump(plugin), **plugin.provenance}
                for kind, (name, plugin) in self.plugins.items()
            },
            **{name: config[name] for name in DECIDING},
        }

    def describe(self) -> dict[str, Any]:
        """What a manifest records: the method, versions, device, conventions."""
        return {
            **self.method(),
            "versions": {name: version(name) for name in ("fusionkit", "torch", "numpy", "pillow", "tifffile")},
            "device": str(self.device),
            "conventions": "pixels in [0, 1], t = 0 data, t = 1 noise, rounded to the nearest stored value",
        }

    def fuse_tensors(
        self,
        images: Sequence[Tensor],
        *,
        reference: int | None = None,
        roles: Sequence[str] = (),
        callback: Callback | None = None,
        watch: Stopwatch | None = None,
    ) -> Tensor:
        """Fuse (B, 1 or 3, H, W) tensors in [0, 1], all of one size; the result is in [0, 1].

        Image b of the result depends on image b of the sources alone: one noise, drawn from the seed, serves every
        image of a batch.
        """
        images = [self._checked(image, i) for i, image in enumerate(images)]
        if not images:
            raise InputError("nothing to fuse: give at least one image")
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) > 1 or len({image.shape[0] for image in images}) > 1:
            raise SizeMismatch(f"sources differ in shape: {', '.join(str(tuple(i.shape)) for i in images)}")
        rounded = self.config.luma == "rounded"
        lumas = [rounded_luma(image) if rounded else self.color.split(image)[0] for image in images]
        size = images[0].shape[-2:]
        if self.config.working_size is not None:
            images, lumas = ([_bicubic(x, self.config.working_size) for x in xs] for xs in (images, lumas))
        height, width = images[0].shape[-2:]
        tile = self.config.tile or (TILE if height * width > WHOLE_PIXELS else 0)
        prior = self.prior
        if prior.max_sources is not None and len(images) > prior.max_sources:
            prior = FoldedPrior(prior)
        sampler = self._sampler(prior, tile, watch)
        results = []
        for b in range(images[0].shape[0]):
            one = tuple(image[b : b + 1] for image in images)
            chosen = self.reference([is_colorful(image) for image in one]) if reference is None else reference
            sources = Sources(one, tuple(y[b : b + 1] for y in lumas), tuple(roles), chosen)
            generator = torch.Generator().manual_seed(self.config.seed)
            results.append(sampler(sources, generator, callback))
        fused = torch.cat(results)
        return self._finish(fused if fused.shape[-2:] == size else _bicubic(fused, size))

    def _checked(self, image: Tensor, index: int) -> Tensor:
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise InputError(f"source {index + 1} has shape {tuple(image.shape)}, expected (B, 1 or 3, H, W)")
        if image.numel() == 0:
            raise InputError(f"source {index + 1} is empty: shape {tuple(image.shape)}")
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise InputError(f"source {index + 1} has values from {low:g} to {high:g}, expected [0, 1]")
        return image.to(self.device, torch.float32)

    def reference(self, colorful: Sequence[bool]) -> int:
        """Index of the reference source: as configured, else the only one with colour, else the last."""
        count = len(colorful)
        if self.config.reference > count:
            raise OptionError(f"reference={self.config.reference}, but there are only {count} sources")
        if self.config.reference:
            return self.config.reference - 1
        return list(colorful).index(True) if sum(colorful) == 1 else count - 1

    def _sampler(self, prior: Prior, tile: int, watch: Stopwatch | None) -> Sampler:
        backbone, decoder = self.backbone, self.decoder
        if tile:
            step = decoder.factor * backbone.multiple  # tiles and overlaps in whole cells of both networks
            overlap = -(-max(decoder.overlap, tile // 8) // step) * step
            tile = max(tile // step * step, 2 * overlap)
            backbone = TiledBackbone(backbone, tile // decoder.factor, overlap // decoder.factor)
            decoder = TiledDecoder(decoder, tile, overlap)
        return Sampler(backbone, prior, decoder, self.color, self.sampling, watch)

    def _finish(self, image: Tensor) -> Tensor:
        if self.config.stretch == "minmax":
            low, high = (f(luma(image), (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
            image = (image - low) / (high - low).clamp_min(1e-6)
        image = image.clamp(0, 1)
        return (image * 255).floor() / 255 if self.config.levels == "truncated" else image

    def fuse_pictures(self, pictures: Sequence[Picture], callback: Callback | None = None) -> FusedPicture:
        """Fuse images read from files; size, depth, colour profile and alpha are the reference's."""
        if not pictures:
            raise InputError("nothing to fuse: give at least one image")
        watch = Stopwatch()
        index = self.reference([p.has_color for p in pictures])
        reference = pictures[index]
        tensors, notes = [], list(reference.notes)
        for picture in pictures:
            tensor = to_tensor(picture.pixels)
            if picture.size != reference.size:
                self._may_resize(picture, reference)
                tensor = _resized(tensor, reference.pixels.shape[:2])
                notes.append(f"{picture.name} resized from {_size(picture)} to {_size(reference)}")
            tensors.append(tensor)
        fused = self.fuse_tensors(tensors, reference=index, callback=callback, watch=watch)
        pixels = np.ascontiguousarray(to_array(fused))
        alpha = reference.alpha
        if alpha is not None:
            notes.append(f"alpha kept from {reference.name}")
        notes += [f"alpha of {p.name} was ignored" for p in pictures if p.alpha is not None and p is not reference]
        picture = replace(reference, pixels=pixels, alpha=alpha, notes=tuple(notes))
        return FusedPicture(picture, index, watch.rounded())

    def _may_resize(self, picture: Picture, reference: Picture) -> None:
        if self.config.resize != "reference":
            turned = [p.name for p in (picture, reference) if p.turned]
            raise SizeMismatch(
                f"{picture.name} is {_size(picture)} but {reference.name} is {_size(reference)}"
                + (f" (EXIF orientation applied to {' and '.join(turned)})" if turned else "")
                + ": sources must be registered and of one size; --resize reference resizes the others to the reference"
            )

    def fuse(self, *images: Any) -> Any:
        """Fuse paths, PIL images, arrays or tensors: see `fusionkit.fuse`, which this does without building anew."""
        if not images:
            raise InputError("nothing to fuse: give at least one image")
        taken = [take(image, number) for number, image in enumerate(images, 1)]
        tensors = [tensor for tensor, _ in taken]
        # one tensor per image of a batch may have a reference of its own; the first decides the kind of the result
        index = self.reference([is_colorful(tensor[:1]) for tensor in tensors])
        size = tensors[index].shape[-2:]
        if self.config.resize == "reference":
            tensors = [t if t.shape[-2:] == size else _resized(t, size) for t in tensors]
        return taken[index][1](self.fuse_tensors(tensors))


def _bicubic(tensor: Tensor, size: Sequence[int]) -> Tensor:
    """Without a low-pass filter, and with its overshoots, as the field's codes resize to a network's size."""
    return F.interpolate(tensor, tuple(size), mode="bicubic", align_corners=False)


def _resized(tensor: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    return F.interpolate(tensor, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _size(picture: Picture) -> str:
    return f"{picture.size[0]}x{picture.size[1]}"


def output_depth(picture: Picture, depth: Depth | None) -> tuple[Depth, tuple[float, float] | None]:
    """Depth and span to write a result with: the reference's own, or the full range of the depth asked for."""
    return (picture.depth, picture.span) if depth in (None, picture.depth) else (depth, None)


def is_colorful(image: Tensor) -> bool:
    """`Picture.has_color` for a tensor (B, C, H, W)."""
    return bool(colorful(image).any())


def _dump(plugin: Plugin) -> dict[str, Any]:
    options = getattr(plugin, "options", None)
    return options.model_dump(mode="json") if options is not None else {}


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # each kind of device that is not there raises something of its own
        reason = str(error).splitlines()[0]
        raise OptionError(f"device {name!r} cannot be used ({reason}); use auto, cpu, cuda or cuda:N") from None
    return device
