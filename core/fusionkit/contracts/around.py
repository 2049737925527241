"""What stands around the fusion: colour spaces and stages."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..sources import Frames, Sources
from .base import Plugin, Remembering


class ColorSpace(Plugin, ABC):
    """Separates what is fused (luma) from what is carried over (chroma).

    bt601: its luma is that of `fusionkit.numerics.luma`. reach: how many rows around a pixel `merge` looks at, once
    `Sources.colored` and `Sources.scenes` are known; None says that it needs the whole image. `split` goes pixel by
    pixel. blends: a chroma that was blended as its luma was, of many frames, may be merged as that of one source.
    """

    bt601: bool = False
    reach: int | None = None
    blends: bool = False

    @abstractmethod
    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) or (B, 1, H, W) in [0, 1] -> luma (B, 1, H, W), chroma (B, 2, H, W) or None for grey."""

    @abstractmethod
    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """Luma and the chroma of each source -> (B, 3, H, W), or (B, 1, H, W) when no source has chroma."""


class Stage(Remembering, ABC):
    """Something done to the sources before the fusion, to the result after it, or both.

    A method has any number of stages: `before` is called in their order, `after` in the reverse one, so that the first
    stage sees the sources as they came and has the last word on the result. What either has to tell the user goes to
    `sources.report`. bt601: it needs a colour space of BT.601's luma. by_frame: `before` treats each source by itself,
    or by the reference, whatever their number, so that it serves frames of a series one by one. memory: keeps values
    from frame to frame of a video's shot; of single images it keeps nothing.
    """

    bt601: bool = False
    by_frame: bool = False

    def degradations(self, sources: Sources) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """For each source, degradations that `before` would only cover up, with their options.

        They are undone by the flow first, if the user lets it: {"low_resolution": {"height": 480, "width": 640}}.
        """
        return ()

    def of_series(self, sources: Sequence[Sources], frames: Frames) -> "Sequence[Stage]":
        """The stage for each frame of a series, after a look at all of them: by default the stage itself.

        sources: each frame alone, as the stages before this one leave it, made on every access. frames: what is known
        of the series, except its size. `before` of a frame's stage is given that frame, and the reference behind it.
        """
        return [self] * len(sources)

    def before(self, sources: Sources) -> Sources:
        """The sources that the next stage, and in the end the fusion, sees; nothing is changed in place."""
        return sources

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The result (B, 3 or 1, H, W), about [0, 1] -> the result; `sources` are those that `before` was given.

        `image` is this stage's to keep: it may be changed in place.
        """
        return image
