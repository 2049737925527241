"""What Python users call: `fuse` for paths, pictures, arrays, tensors, PIL images; `Pipeline` for many, and folders."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Unpack, overload

from PIL.Image import Image
from torch import Tensor

from .batch.folders import fuse_plan
from .batch.options import IMAGES, FileOptions, ResultOptions, refuse_ignored
from .batch.plan import plan_folders
from .contracts import Backbone, Prior
from .engines.options import EngineOptions
from .errors import Caution, warn_of
from .images.picture import Array, Picture
from .method import pipeline as method
from .method.keywords import AllChoices, Choices, Named
from .method.result import FusedArray, FusedImage, FusedTensor
from .options import validate_options
from .reading.take import Source
from .storage.outcome import Outcome

Progress = Callable[[int, int, Outcome], object]


class Pipeline(method.Pipeline):
    """A configured method, ready to fuse images and folders.

    Made from a `PipelineConfig`, or from its fields: Pipeline(prior="laplacian"), Pipeline(task="ivif"),
    Pipeline(prior=MyPrior(options)). task, preset: choices that the fields override. device: "auto" takes CUDA, then
    Apple's MPS, then the CPU. Same seed, machine and options: same bytes.
    """

    def fuse_folder(
        self,
        *sources: str | Path,
        output: str | Path,
        group: int = 0,
        ext: str = ".png",
        limit: int = 0,
        review: str | Path = "",
        jobs: int = 0,
        files: FileOptions | Mapping[str, object] | None = None,
        progress: Progress | bool = False,
    ) -> list[Outcome]:
        """Fuse pair after pair of folders into the folder `output`, as `fusionkit run` does with `pairs`.

        sources: folders, in which files of one name belong together, patterns ("shots/*_ir.tif"), or one table of paths
        (.csv, .parquet). group: sources is one folder or pattern of brackets of so many files. ext: extension of the
        results. limit: the first so many pairs only; 0: all. review: page (.html) to look the results through. jobs:
        number of processes; 0: none but this one. files: options of reading and writing, such as {"depth": "16",
        "range": (0, 4095), "force": True}. progress: True for a bar, or a function of (done, number, outcome).

        Returns an outcome for each pair: `key`, `status` ("done", "skipped": finished by an earlier run, "failed" with
        its `reason`), `output`, `notes`, `seconds`, `record` (its row in output/manifest.jsonl). Pairs go on after one
        that failed; a `fusionkit.FusionWarning` tells of failures, and of files that were left out. Raises
        `fusionkit.errors.FusionkitError` where nothing can begin.
        """
        paths, place = tuple(Path(source) for source in sources), Path(output)
        given = {"ext": ext, "limit": limit, "review": str(review)}
        result = validate_options(ResultOptions, given, "")
        engine = validate_options(EngineOptions, {"jobs": jobs}, "").make()
        if not isinstance(files, FileOptions):
            files = validate_options(FileOptions, files or {}, "files")
        refuse_ignored(files, "folders", result.ext, IMAGES)
        plan = plan_folders(paths, place, result.ext, group, self.config.reference, limit)
        outcomes, number = fuse_plan(self, plan, place, files, result, engine)
        found = []
        for outcome in _shown(outcomes, number) if progress is True else outcomes:
            found.append(outcome)
            if callable(progress):
                progress(len(found), number, outcome)
        failed = [outcome for outcome in found if outcome.status == "failed"]
        said = [f"{a} and {b} have one name: neither was fused" for a, b in plan.ambiguous]
        said += plan.alone
        said += [f"{len(failed)} of {number} failed: {o.key}: {o.reason}" for o in failed[:1]]
        warn_of(map(Caution, said))
        return found


def _shown(outcomes: Iterator[Outcome], number: int) -> Iterator[Outcome]:
    """Outcomes, with a bar on stderr while they come."""
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, "", number, console=Console(stderr=True), transient=True)


@overload
def fuse(*images: str | Path | Picture | Array, **choices: Unpack[AllChoices]) -> FusedArray: ...


@overload
def fuse(*images: Tensor, **choices: Unpack[AllChoices]) -> FusedTensor: ...


@overload
def fuse(*images: Image, **choices: Unpack[AllChoices]) -> FusedImage: ...


@overload
def fuse(*images: Source, **choices: Unpack[AllChoices]) -> FusedArray | FusedTensor | FusedImage: ...


def fuse(  # type: ignore[misc]  # mypy compares no TypedDict with parameters
    *images: Source,
    prior: Named | Prior | None = None,
    backbone: Named | Backbone | None = None,
    task: str | None = None,
    preset: str | Path | None = None,
    device: str = "auto",
    **choices: Unpack[Choices],
) -> FusedArray | FusedTensor | FusedImage:
    """Fuse two or more registered images of one scene.

    images: paths, pictures of `read_image`, PIL images, numpy arrays (H, W) or (H, W, 3) of uint8, uint16 or float in
    [0, 1], or torch tensors (H, W), (C, H, W) or (B, C, H, W) of uint8 or float in [0, 1]; kinds may be mixed.
    prior: "em_tv" by default; backbone: "rf"; each a name, a table {"name": ..., option: value}, or an object.
    task: "ivif", "mef", "mff" or "medical" takes the choices that were measured best for it. preset: a TOML file or the
    name of a shipped one. device: "auto" takes CUDA, then Apple's MPS, then the CPU. choices: fields of
    `fusionkit.PipelineConfig`, and options of a part. Keywords override the preset, which overrides the task.

    Returns an array, a tensor or a PIL image, like the reference source (by default the only one with colour, else the
    last), of its size and type; for a path, an array of the file's depth. The result has `notes`, `reference`, `image`
    (its plain pixels) and `save(path)`. Raises `fusionkit.errors.FusionkitError`. A
    `fusionkit.FusionWarning` tells of what may have spoiled the result: a source that looks misplaced, a range that was
    guessed, noise that was left; `notes` has these, too.

    Each call builds the method; a `fusionkit.Pipeline` builds it once for many calls.

    >>> import numpy as np, fusionkit
    >>> dark, bright = np.full((32, 32), 0.2), np.full((32, 32), 0.6)
    >>> fused = fusionkit.fuse(dark, bright, prior="average", backbone="identity")
    >>> print(type(fused).__name__, fused.shape, round(float(fused.mean()), 3))
    FusedArray (32, 32) 0.4
    >>> fused = fusionkit.fuse(dark, bright, prior="source", prior_options={"number": 1}, backbone="identity")
    >>> print(round(float(fused.mean()), 3))
    0.2
    """
    parts = {name: part for name, part in (("prior", prior), ("backbone", backbone)) if part is not None}
    pipeline = Pipeline(task=task, preset=preset, device=device, **choices, **parts)  # type: ignore[arg-type]
    return pipeline.fuse(*images)
