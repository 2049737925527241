"""Checks of the sources before the sampler: values, sizes, places; and of what plug-ins return."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..contracts import ColorSpace, Sources, Stage
from ..errors import InputError, PluginError, SizeMismatch
from ..images.accept import beyond_unit
from ..images.convert import StoredImages, to_array, to_tensor
from ..images.validity import mirrored
from ..numerics.choice import all_finite
from ..numerics.homography import displacement, scale_of, size_of
from ..numerics.luma import luma as bt601
from ..numerics.registration import look_apart, register
from ..timing import Stopwatch

OTHER_VIEW = 0.05  # relative difference from which fields of view are told instead of a shift


def sources_of(
    images: Sequence[Tensor],
    names: Sequence[str],
    valid: Sequence[Tensor | None],
    color: ColorSpace,
    device: torch.device,
) -> Sources:
    """Sources of images, checked, on a device. Other arguments as in `Pipeline.run`."""
    if not len(images):
        raise InputError("fusing needs images; got none")
    known = list(valid) or [None] * len(images)
    checked = images
    if not isinstance(images, StoredImages):  # whose values are in range by what they are
        checked = []
        for i, image in enumerate(images):
            taken, gaps = _checked(image.to(device), i)
            if gaps and known[i] is None:
                taken, known[i] = _without_nan(taken)
            checked.append(taken)
        if len({len(image) for image in checked}) > 1:
            raise SizeMismatch(f"sources differ in shape: {', '.join(str(tuple(i.shape)) for i in checked)}")
    if names and len(names) != len(checked):
        raise InputError(f"{len(names)} names for {len(checked)} sources")
    to_luma = bt601 if color.bt601 else lambda image: color.split(image)[0]
    sources = Sources.of(checked, to_luma, names=tuple(names))
    return replace(sources, valid=tuple(None if v is None else v.to(device) for v in known))


def _checked(image: Tensor, index: int) -> tuple[Tensor, bool]:
    """The source as float32, and whether it has NaN, which say that there are no data."""
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise InputError(f"source {index + 1} has shape {tuple(image.shape)}, expected (B, 1 or 3, H, W)")
    if image.numel() == 0:
        raise InputError(f"source {index + 1} is empty: shape {tuple(image.shape)}")
    low, high = float(image.amin()), float(image.amax())
    if gaps := math.isnan(low):
        low, high = (float(image.nan_to_num(v).aminmax()[i]) for i, v in enumerate((1.0, 0.0)))
    if not (low >= 0 and high <= 1):
        raise InputError(f"source {index + 1} has values {beyond_unit(low, high)}")
    return image.float(), gaps


def _without_nan(image: Tensor) -> tuple[Tensor, Tensor]:
    """The images (B, C, H, W) with values where they are NaN, and where they are not."""
    nan = image.isnan().any(1, keepdim=True)
    rows = [mirrored(~n[0].cpu().numpy(), to_array(x[None]))[0] for x, n in zip(image, nan, strict=True)]
    return torch.cat([to_tensor(row) for row in rows]).to(image), ~nan


def check_sizes(sources: Sources) -> None:
    """Refuse sources of several sizes, as the stages left them."""
    reference = sources.reference_luma.shape[-2:]
    for name, y in zip(sources.names, sources.luma, strict=True):
        size = y.shape[-2:]
        if size != reference:
            raise SizeMismatch(
                f"{name} is {size[1]}x{size[0]} but {sources.names[sources.reference]} is "
                f"{reference[1]}x{reference[0]}: sources must be registered and of one size; `resize=reference` "
                "resizes the others to the reference, `align=affine` finds where they lie in it"
            )


def note_places(sources: Sources) -> None:
    """Note and record each source that seems to lie elsewhere than the reference, where `align` would find it."""
    reference, report = sources.reference, sources.report
    for i in range(len(sources)):
        for b in range(len(sources.luma[i]) if i != reference else 0):
            pair = sources.luma[reference][b : b + 1], sources.luma[i][b : b + 1]
            apart = look_apart(*pair)
            found = register(*pair, "affine") if apart is not None else None
            if apart is None or found is None or not found.sure:
                continue
            report.record("apart", source=i + 1, **apart.record())
            name, main, view = sources.names[i], sources.names[reference], 1 / scale_of(found.matrix)
            across, down = (round(float(found.matrix[axis, 2])) for axis in (0, 1))
            parts = [f"{abs(across)} px {'right' if across > 0 else 'left'}"] if across else []
            parts += [f"{abs(down)} px {'down' if down > 0 else 'up'}"] if down else []
            where = (
                f"looks {displacement(found.matrix, size_of(pair[0])):.0f} px off {main}"
                + (f" ({', '.join(parts)})" if parts else "")
                if abs(view - 1) < OTHER_VIEW
                else f"sees {view:.2f} of {main}'s field of view"
            )
            report.note(f"{name} {where}; `align=affine` corrects this", warning=True)


def staged(name: str, stage: Stage, sources: Sources, watch: Stopwatch) -> Sources:
    """The sources as a stage leaves them for the next. Raises PluginError where it returns anything else."""
    with watch.stage(f"stage {name}"):
        sources = stage.before(sources)
    if not isinstance(sources, Sources):
        raise PluginError(f"stage {name}: before returned {type(sources).__name__}, expected Sources")
    return sources


def check_answer(answer: Tensor, shape: Sequence[int] | None, what: str, plugin: object = None) -> None:
    """Refuse what no image can be made of, instead of writing it. Raises PluginError.

    what: function that answered, of `plugin`; or, without it, as messages name it.
    """
    name = what if plugin is None else f"{type(plugin).__module__}.{type(plugin).__name__}.{what}"
    if shape is not None and answer.shape != tuple(shape):
        raise PluginError(f"{name} returned shape {tuple(answer.shape)}, expected {tuple(shape)}")
    if not all_finite(answer):
        raise PluginError(f"{name} returned NaN or infinite values; check its options")
