"""Sources in, one image out: builds the plug-ins once and fuses any number of times."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack, overload

import torch
from PIL import Image
from torch import Tensor

from ..contracts import Backbone, ColorSpace, Decoder, Memory, Prior, ShotMemory, Sources, Stage
from ..contracts.base import check_image
from ..errors import InputError, OptionError, SizeMismatch, warn_of
from ..extras import DISTRIBUTION
from ..images.convert import to_tensor
from ..images.metadata import CameraSettings
from ..images.picture import Array, Picture, Span
from ..memory import reuse_pages
from ..numerics.precision import takes_winograd
from ..reading.ranges import share_range
from ..reading.take import Source, as_source
from ..registry.kinds import METHOD
from ..scene import SCENE_KINDS, Scene, SceneChoice
from ..sources import STILL, Report
from ..timing import Stopwatch
from .checkpoint import Checkpoint
from .checks import check_sizes, note_places, staged, told_by
from .choice import Choice
from .config import PipelineConfig, sampling_of
from .device import find_device
from .filling import filled, with_nan
from .flags import stages_of
from .folding import FoldedPrior
from .frames import Series
from .images import sources_of
from .keywords import Choices
from .parts import build, parts_of
from .pictures import fuse_at_once, notes_of, reference_of
from .presets import choose
from .restore import Restorer
from .result import Facts, FusedArray, FusedImage, FusedPicture, FusedTensor, in_kind
from .sampler import Callback, Sampler
from .series import AT_ONCE, Progress, fuse_series
from .tiling import TILE, WHOLE_PIXELS, tiled

NO_FLOW = f"{DISTRIBUTION}:identity"  # who chooses this backbone wants none
Told = Mapping[str, Mapping[str, Any]]


class Pipeline:
    """A configured method, ready to fuse; its arguments are those of `fusionkit.Pipeline`, which also takes folders."""

    def __init__(
        self,
        config: PipelineConfig | None = None,
        *,
        task: str | None = None,
        preset: str | Path | None = None,
        device: str = "auto",
        **choices: Unpack[Choices],
    ) -> None:
        given = [*(name for name, value in (("task", task), ("preset", preset)) if value is not None), *choices]
        if config is not None and given:
            raise OptionError(f"give a configuration, or {', '.join(given)}, not both")
        if config is not None and not isinstance(config, PipelineConfig):
            raise OptionError(f"expected a PipelineConfig or its fields, such as prior={config!r:.40}")
        self.config = c = config or choose(task, preset, dict(choices))
        self.device = find_device(device)
        reuse_pages()
        self.parts = parts_of(c, self.device)
        self.prior: Prior = self.parts["prior"].plugin
        self.backbone: Backbone = self.parts["backbone"].plugin
        self.decoder: Decoder = self.parts["decoder"].plugin
        self.color: ColorSpace = self.parts["color"].plugin
        self.stages = [build("stage", choice, self.device) for choice in stages_of(c, self.prior)]
        for stage in self.stages:
            if stage.plugin.bt601 and not self.color.bt601:
                raise OptionError(
                    f"stage {stage.name} needs BT.601's luma, color {c.color} has another; use ycbcr or gray"
                )
        # refuses impossible combinations now, not at the first image
        sampling = sampling_of(
            c.sampler, self.prior.sampling, most=self.backbone.restores or 1.0, lossless=self.decoder.lossless
        )
        self.sampler = Sampler(self.backbone, self.prior, self.decoder, self.color, sampling)
        self.sampler.check_seed(c.seed)
        self.restorer = Restorer(self.backbone, self.decoder, self.color, c.restore, sampling.precision)

    def __repr__(self) -> str:
        shown: dict[str, object] = {key: self.parts[key].name for key in ("prior", "backbone")}
        shown["device"] = str(self.device)
        for name, value in self.config.__repr_args__():
            if isinstance(value, Choice):
                shown |= {str(name): str(value)} | ({f"{name}_options": value.options} if value.options else {})
            else:
                shown[str(name)] = value
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def has_flow(self) -> bool:
        """Whether the backbone is more than a place where none was wanted."""
        return self.parts["backbone"].full_name != NO_FLOW

    def method(self) -> dict[str, Any]:
        """All that decides the pixels apart from the sources, with every default filled in."""
        config = {**self.config.model_dump(mode="json"), "sampler": self.sampler.options.model_dump(mode="json")}
        return {
            "plugins": {part.kind: part.record() for part in self.parts.values()},
            "stages": [stage.record() for stage in self.stages],
            **{name: config[name] for name in PipelineConfig.model_fields if name not in (*METHOD, "stages")},
        }

    def describe(self) -> dict[str, Any]:
        """What a manifest records: the method, versions, device, conventions."""
        return {
            **self.method(),
            "versions": {name: version(name) for name in (DISTRIBUTION, "torch", "numpy", "pillow", "tifffile")},
            "device": str(self.device),
            **self._convolutions(),
            "conventions": "pixels in [0, 1], t = 0 data, t = 1 noise, rounded to the nearest stored value",
        }

    def _convolutions(self) -> dict[str, str]:
        """How networks convolve in float32, which one machine's processors and settings decide."""
        if self.device.type != "cpu" or not self.has_flow or self.sampler.options.precision != "auto":
            return {}
        return {"convolutions": "winograd" if takes_winograd() else "direct"}

    def fuse_tensors(
        self, images: Sequence[Tensor], *, reference: int | None = None, callback: Callback | None = None
    ) -> Tensor:
        """Fuse (B, 1 or 3, H, W) tensors in [0, 1]: the image of `run`."""
        return self.run(images, reference=reference, callback=callback).image

    def run(
        self,
        images: Sequence[Tensor],
        *,
        reference: int | None = None,
        names: Sequence[str] = (),
        degraded: Sequence[Told] = (),
        valid: Sequence[Tensor | None] = (),
        views: Sequence[float | None] = (),
        spans: Sequence[Span] = (),
        settings: Sequence[CameraSettings] = (),
        callback: Callback | None = None,
        watch: Stopwatch | None = None,
        shot: ShotMemory | None = None,
    ) -> FusedTensor:
        """Fuse (B, 1 or 3, H, W) tensors in [0, 1], all of one size unless a stage makes them so.

        Image b of the result depends on image b of the sources alone. reference: index of the reference source; by
        default as configured, chosen for each image. names: what messages call the sources. degraded: what is
        known of each source's degradations, by their names, as readers state it. valid: where each has data, (B, 1, H,
        W) of bool or None for everywhere; NaN are none in any case, and stand in the result where no source has data.
        views: tangent of half of each one's field of view along the longer side, None where it is not known.
        spans: the stored values of black and white of each source. settings: what the camera of each wrote.
        shot: the memory of a video's shot, which this frame continues: kinds of scene, noise and places as the first
        frame has them, the prior's last state, and a part for each stage and each degradation.
        """
        sources = sources_of(images, names, valid, self.color, self.device)
        scenes = (self.stated_scene,) * len(sources.luma[0]) if self.stated_scene else ()
        sources = replace(
            sources,
            degraded=tuple(degraded),
            views=tuple(views),
            spans=tuple(spans),
            settings=tuple(settings),
            known_scenes=scenes,
        )
        done: dict[int, Tensor] = {}
        batches = self._batches(sources, reference)
        first = next(index for index, batch in batches if 0 in batch) % len(sources)
        facts = Facts(sources.report.notes, first, found=sources.report.records, planes=sources.report.planes)
        for index, batch in batches:
            some = replace(sources.select(batch), reference=index)
            fused = self._fuse(some, facts, callback, watch or Stopwatch(), shot)
            done |= dict(zip(batch, fused, strict=True))
        self._say_unasked(sources.report, facts)
        if len(batches) == 1:
            return FusedTensor.of(fused, facts)
        if len({image.shape for image in done.values()}) > 1:
            raise SizeMismatch("the images of this batch have references of different sizes; fuse them one by one")
        return FusedTensor.of(torch.stack([done[b] for b in range(len(done))]), facts)

    def _say_unasked(self, report: Report, facts: Facts) -> None:
        """Note that a backbone that somebody chose had nothing to do."""
        part = self.parts["backbone"]
        if facts.evaluations or "backbone" not in self.config.model_fields_set or not self.has_flow:
            return
        if self.restorer.able and self.restorer.links:
            report.note(f"backbone {part.name} was not asked: the sources are clean, and `strength` is 0")
        else:
            report.note(
                f"backbone {part.name} was not asked, so the result is that of any other: `strength` is 0, and nothing "
                "is restored by it; `strength=0.2` samples it",
                warning=True,
            )

    def _fuse(
        self, sources: Sources, facts: Facts, callback: Callback | None, watch: Stopwatch, shot: ShotMemory | None
    ) -> Tensor:
        """Images of one reference: stages, the sampler, stages."""
        memory, given = shot or STILL, []
        sources = self._restored(sources, facts, watch, memory)
        for i, stage in enumerate(self.stages):
            plugin = stage.plugin.remembering(memory.part(f"stage {i}")) if shot else stage.plugin
            given.append((stage.name, plugin, sources))
            sources = staged(stage.name, plugin, sources, watch)
        check_sizes(sources)
        if self.config.align == "check":
            with watch.stage("check"):
                memory.once("places", partial(note_places, sources))
        sources = filled(sources)
        noise = [torch.Generator().manual_seed(self.config.seed) for _ in range(len(sources.luma[0]))]
        before = memory.last("prior")
        sample = self._sampler(sources)(sources, noise, memory=memory, before=before, callback=callback, watch=watch)
        memory.keep("prior", sample.state)
        facts.evaluations += sample.evaluations
        image = sample.image
        del sample  # its image goes as soon as a stage makes another
        held = image.untyped_storage().data_ptr()
        if given and any(held == luma.untyped_storage().data_ptr() for luma in sources.luma):
            image = image.clone()  # stages may change it in place
        image = self.after(image, given, watch)
        image = with_nan(image, sources)
        if sources.cut is not None:
            facts.cut, image = sources.cut, image[(..., *sources.cut)]
        return image

    def after(self, image: Tensor, given: Sequence[tuple[str, Stage, Sources]], watch: Stopwatch) -> Tensor:
        """The result as the stages leave it, in [0, 1]; given: each with its name and what its `before` was given."""
        for name, plugin, seen in reversed(given):
            with watch.stage(f"stage {name}"):
                image = plugin.after(image, seen)
            check_image(image, len(seen.luma[0]), seen.reference_luma.shape[-2:], "after", plugin)
        low, high = image.amin(), image.amax()
        return image if low >= 0 and high <= 1 else image.clamp(0, 1)

    def _restored(self, sources: Sources, facts: Facts, watch: Stopwatch, memory: Memory) -> Sources:
        """The sources as the flow restores them, those that a stage would enlarge in their new size."""
        told = [told_by(stage.plugin, sources) for stage in self.stages]
        degraded = tuple(
            {**own, **{name: options for t in told if t for name, options in t[i].items()}}
            for i, own in enumerate(sources.degraded)
        )
        restorer = self.restorer_of(sources)
        sources = replace(sources, degraded=degraded)
        if not restorer.resizes(sources) and all(type(stage.plugin).before is Stage.before for stage in self.stages):
            check_sizes(sources)  # nothing will make them of one size: no need to restore them first
        sources, restored = restorer(sources, watch, memory)
        facts.restored += restored
        each = Counter[tuple[int, int]]()  # planes go side by side
        for row in restored:
            each[row.plane] += row.evaluations
        facts.evaluations += max(each.values(), default=0)
        for row in restored:
            sources.report.note(row.note(), warning=not row.undone and self.has_flow)
        return sources

    def _batches(self, sources: Sources, reference: int | None) -> list[tuple[int, list[int]]]:
        """Which images go through together, and the index of their reference; rk45 fits its steps to each alone."""
        count = len(sources.luma[0])
        if reference is not None and not -len(sources) <= reference < len(sources):
            raise OptionError(f"`reference={reference}` as an index, but there are only {len(sources)} sources")
        if reference is None:
            coloured = [has.tolist() for has in sources.colored]
            references = [self.reference([c[b] for c in coloured]) for b in range(count)]
        else:
            references = [reference] * count
        if self.sampler.options.solver == "rk45":
            return [(index, [b]) for b, index in enumerate(references)]
        return [(i, [b for b in range(count) if references[b] == i]) for i in dict.fromkeys(references)]

    def reference(self, colorful: Sequence[bool], settings: Sequence[CameraSettings] = ()) -> int:
        """Index of the reference source: as configured, else the only one with colour, the middle exposure, the last.

        settings: what the camera of each wrote, by which a bracket is known.
        """
        return reference_of(colorful, self.config.reference, settings)

    def reference_in(self, pictures: Sequence[Picture]) -> int:
        """Index of the reference among pictures; see `reference`. Those of a series are not read."""
        if isinstance(pictures, Series):
            return self.reference((True,) * len(pictures), pictures.settings)
        return self.reference([p.has_color for p in pictures], [p.settings for p in pictures])

    def _sampler(self, sources: Sources) -> Sampler:
        """The sampler for sources of this number and size: a prior of fewer sources folds, large images are tiled."""
        sampler = self.sampler
        if self.prior.max_sources is not None and len(sources) > self.prior.max_sources:
            sampler = replace(sampler, prior=FoldedPrior(self.prior, self.color))
        return replace(sampler, **self._in_tiles) if self._tile(sources) else sampler

    def _tile(self, sources: Sources) -> bool:
        """Whether networks see these sources in tiles."""
        return bool(self.config.tile) or max(y.shape[-2] * y.shape[-1] for y in sources.luma) > WHOLE_PIXELS

    @cached_property
    def _in_tiles(self) -> dict[str, Any]:
        """The networks, which see large images in tiles."""
        backbone, decoder = tiled(self.backbone, self.decoder, self.config.tile or TILE)
        return {"backbone": backbone, "decoder": decoder}

    def restorer_of(self, sources: Sources) -> Restorer:
        """The restorer for sources of this size."""
        return self._restorer_in_tiles if self._tile(sources) else self.restorer

    @cached_property
    def _restorer_in_tiles(self) -> Restorer:
        return replace(self.restorer, **self._in_tiles)

    def fuse_pictures(
        self,
        pictures: Sequence[Picture],
        callback: Callback | None = None,
        reference: int | None = None,
        shot: ShotMemory | None = None,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> FusedPicture:
        """Fuse images read from files; size, depth, colour profile and alpha are the reference's.

        More than four are fused frame by frame where the method streams, so that memory does not grow with their
        number; a `fusionkit.method.frames.Series` reads each when its turn comes. reference: its index, where the
        caller has chosen it. callback: told of the sampler's steps, of which a series has none. shot: as in `run`.
        progress, checkpoint: of a series.
        """
        if not pictures:
            raise InputError("fusing needs images; got none")
        if len(pictures) > AT_ONCE and shot is None:
            series = fuse_series(self, pictures, reference=reference, progress=progress, checkpoint=checkpoint)
            if series is not None:
                return series
        return fuse_at_once(self, pictures, reference=reference, callback=callback, shot=shot)

    def ranged(self, pictures: Sequence[Picture]) -> Sequence[Picture]:
        """The pictures, those of one quantity in one range."""
        scene = self.stated_scene
        return share_range(pictures, one_quantity=scene is not None and SCENE_KINDS[scene].one_quantity)

    @cached_property
    def stated_scene(self) -> Scene | None:
        """The kind of scene that an option of the prior states, if any."""
        options = getattr(self.prior, "options", None)
        fields = type(options).model_fields.items() if options is not None else ()
        stated = [getattr(options, name) for name, info in fields if info.annotation == SceneChoice]
        return next((scene for scene in stated if scene != "auto"), None)

    @overload
    def fuse(self, *images: str | Path | Picture | Array) -> FusedArray: ...

    @overload
    def fuse(self, *images: Tensor) -> FusedTensor: ...

    @overload
    def fuse(self, *images: Image.Image) -> FusedImage: ...

    @overload
    def fuse(self, *images: Source) -> FusedArray | FusedTensor | FusedImage: ...

    def fuse(self, *images: Source) -> FusedArray | FusedTensor | FusedImage:
        """Fuse paths, pictures, PIL images, arrays or tensors: `fusionkit.fuse` without building the method.

        Warns by `fusionkit.FusionWarning` of what may have spoiled the result, which `notes` of the result says, too.
        """
        fused: FusedPicture | FusedTensor
        files = [Path(image) for image in images if isinstance(image, str | Path)]
        if len(files) == len(images) > AT_ONCE:
            sources: Sequence[Picture | Tensor] = (series := Series.of_files(files))
            fused = self.fuse_pictures(series)
        else:
            sources = [as_source(image, number) for number, image in enumerate(images, 1)]
            if len(sources) < 2:
                raise InputError(f"fusing needs two or more images of one scene; got {len(sources) or 'none'}")
            pictures = [source for source in sources if isinstance(source, Picture)]
            if len(pictures) == len(sources):
                fused = self.fuse_pictures(pictures)
            else:
                fused = self.run([to_tensor(s.pixels) if isinstance(s, Picture) else s for s in sources])
                fused.facts.notes[:0] = notes_of(pictures)
        warn_of(fused.facts.notes)
        return in_kind(images[fused.reference], sources[fused.reference], fused)
