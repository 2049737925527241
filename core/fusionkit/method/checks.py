"""Checks of the sources before the sampler: what stages return, sizes, places."""

from ..contracts import Sources, Stage
from ..errors import PluginError, SizeMismatch
from ..numerics.homography import displacement, scale_of, size_of
from ..numerics.registration import look_apart, register
from ..timing import Stopwatch

__all__ = ["check_sizes", "note_places", "staged"]

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
            where = (
                f"looks {displacement(found.matrix, size_of(pair[0])):.0f} px off {main} "
                f"({found.matrix[0, 2]:+.0f} to the right, {found.matrix[1, 2]:+.0f} down)"
                if abs(view - 1) < OTHER_VIEW
                else f"sees {view:.2f} of {main}'s field of view"
            )
            report.note(f"{name} {where}; `align=affine` moves it there", warning=True)


def staged(name: str, stage: Stage, sources: Sources, watch: Stopwatch) -> Sources:
    """The sources as a stage leaves them for the next. Raises PluginError where it returns anything else."""
    with watch.stage(f"stage {name}"):
        sources = stage.before(sources)
    if not isinstance(sources, Sources):
        raise PluginError(f"stage {name}: before returned {type(sources).__name__}, expected Sources")
    return sources
