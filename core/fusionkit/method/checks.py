"""Checks of the sources before the sampler: sizes, places, and what stages leave."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..contracts import Sources, Stage
from ..contracts.base import check_image, unfit
from ..errors import SizeMismatch
from ..numerics.homography import displacement, scale_of, size_of
from ..numerics.registration import look_apart, register
from ..threads import on_free_cores
from ..timing import Stopwatch

OTHER_VIEW = 0.05  # relative difference from which fields of view are told instead of a shift


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


@on_free_cores()
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


def told_by(stage: Stage, sources: Sources) -> Sequence[Mapping[str, Mapping[str, Any]]]:
    """What a stage says of the sources' degradations; empty where nothing. Raises PluginError for anything else."""
    told: object = stage.degradations(sources)
    if isinstance(told, Sequence) and len(told) in (0, len(sources)) and all(isinstance(t, Mapping) for t in told):
        return told
    raise unfit(stage, "degradations", f"{told!r:.80}, expected a mapping for each source")


def staged(name: str, stage: Stage, sources: Sources, watch: Stopwatch) -> Sources:
    """The sources as a stage leaves them for the next. Raises PluginError where it returns anything else."""
    with watch.stage(f"stage {name}"):
        left: object = stage.before(sources)
    if not isinstance(left, Sources):
        raise unfit(stage, "before", f"{type(left).__name__}, expected Sources")
    if not len(left.images) == len(left.luma) == len(sources):
        raise unfit(stage, "before", f"{len(left.luma)} sources, expected {len(sources)}")
    for y in left.luma if left is not sources else ():
        check_image(y, len(sources.luma[0]), y.shape[-2:], "before", stage)
    return left
