"""Checks of the sources between the stages and the sampler."""

from ..contracts import Sources
from ..errors import SizeMismatch
from ..numerics.registration import look_apart

__all__ = ["check_sizes", "note_places"]


def check_sizes(sources: Sources) -> None:
    """Refuse sources of several sizes, as the stages left them."""
    reference = sources.reference_luma.shape[-2:]
    for name, y in zip(sources.names, sources.luma, strict=True):
        size = y.shape[-2:]
        if size != reference:
            raise SizeMismatch(
                f"{name} is {size[1]}x{size[0]} but {sources.names[sources.reference]} is "
                f"{reference[1]}x{reference[0]}: sources must be registered and of one size; `resize=reference` "
                "resizes the others to the reference"
            )


def note_places(sources: Sources) -> None:
    """Note and record each source that seems to lie elsewhere than the reference."""
    reference, report = sources.reference, sources.report
    for i in range(len(sources)):
        for b in range(len(sources.luma[i]) if i != reference else 0):
            apart = look_apart(sources.luma[reference][b : b + 1], sources.luma[i][b : b + 1])
            if apart is None:
                continue
            report.record("apart", source=i + 1, **apart.record())
            report.note(
                f"{sources.names[i]} looks {apart.pixels:.0f} px off {sources.names[reference]} "
                f"({apart.right:+.0f} to the right, {apart.down:+.0f} down); `align=affine` moves it there"
            )
