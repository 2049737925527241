"""Results that know themselves: pixels with notes, the reference source, and how to be written."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images.accept import as_picture
from ..images.convert import to_array
from ..images.picture import DTYPE, SHOWN, Array, Depth, Picture
from ..images.write import png_bytes, write_image
from ..reading.take import Source
from .restore import Restored

__all__ = ["Facts", "Fused", "FusedArray", "FusedImage", "FusedPicture", "FusedTensor", "in_kind"]

Kind = TypeVar("Kind", covariant=True)  # noqa: PLC0105  of pixels


@dataclass
class Facts:
    """What a result knows beside its pixels.

    notes: for the user. reference: index of the reference source. seconds: of each stage. evaluations: of the backbone.
    restored: noise of the sources. found: records of stages, for the manifest.
    """

    notes: list[str] = field(default_factory=list)
    reference: int = -1
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0
    restored: list[Restored] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)


class Fused(Generic[Kind]):
    """A result of `fuse`, `Pipeline.run` or `Pipeline.fuse_pictures`.

    Each is what went in, too: a numpy array for paths and arrays, a tensor for tensors, a PIL image for PIL images.
    """

    facts: Facts

    @property
    @abstractmethod
    def image(self) -> Kind:
        """The pixels without what is known of them: an ndarray, a tensor, a PIL image or a `Picture`."""

    @property
    @abstractmethod
    def picture(self) -> Picture:
        """The result with depth, colour profile and metadata of the reference, as files take it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided for the user, one line each."""
        return tuple(self.facts.notes)

    @property
    def reference(self) -> int:
        """Index of the reference source, from 0; of a batch, the first image's."""
        return self.facts.reference

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage; empty where nobody measured."""
        return self.facts.seconds

    @property
    def evaluations(self) -> int:
        """Number of network evaluations."""
        return self.facts.evaluations

    @property
    def restored(self) -> list[Restored]:
        """Noise of the sources, and whether the flow cleaned it."""
        return self.facts.restored

    @property
    def found(self) -> dict[str, Any]:
        """Records of stages, for the manifest."""
        return self.facts.found

    def save(
        self,
        path: str | Path,
        depth: Depth | Literal[8, 16] | None = None,
        *,
        png_level: int = 1,
        quality: int | None = None,
        strip: bool = False,
    ) -> list[str]:
        """Write the result as `fusionkit run` does: see `fusionkit.write_image`."""
        picture = self.picture
        lost = self._lost(picture)
        return lost + write_image(path, picture, depth, png_level=png_level, quality=quality, strip=strip)

    def _lost(self, picture: Picture) -> list[str]:
        """Notes on what the picture lacks of what was known."""
        return []

    def _repr_png_(self) -> bytes:
        """PNG for notebooks."""
        return png_bytes(self.picture.pixels, SHOWN)


class FusedPicture(Fused[Picture]):
    """A result of pictures: float32, before it is rounded to the reference's depth."""

    def __init__(self, picture: Picture, facts: Facts) -> None:
        self._picture, self.facts = picture, facts

    @property
    def image(self) -> Picture:
        """The picture."""
        return self._picture

    @property
    def picture(self) -> Picture:
        """The picture."""
        return self._picture


class FusedTensor(Fused[Tensor], Tensor):
    """A tensor (B, C, H, W), or of the reference's shape, that knows how it was made.

    Copies and pickles know it, too; whatever is computed or cut from it is a plain tensor.
    """

    @classmethod
    def of(cls, tensor: Tensor, facts: Facts) -> Self:
        """The same memory as a result."""
        fused = tensor.as_subclass(cls)
        fused.facts = facts
        return fused

    @property
    def image(self) -> Tensor:
        """The same memory as a plain tensor."""
        return self.as_subclass(Tensor)

    @property
    def picture(self) -> Picture:
        """The image; a batch of several has none."""
        return replace(as_picture(self.image, "the result"), notes=self.notes)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Results of functions are plain tensors."""
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self).of(self.image.clone(), self.facts)


class FusedArray(Fused[Array], np.ndarray):
    """An array (H, W), (H, W, 1) or (H, W, 3), of the reference's type, that knows how it was made.

    Arrays with alpha, (H, W, 4), keep it; of files it is kept for `save`.

    Views, slices, copies and pickles know it, too; whatever is computed from it is a plain array.
    """

    frame: Picture | None = None  # the reference without its pixels; None where it was an array of floats

    @classmethod
    def of(cls, values: Array, facts: Facts, frame: Picture | None) -> Self:
        """The same memory as a result."""
        fused = values.view(cls)
        fused.facts, fused.frame = facts, frame and replace(frame, values=np.empty((0, 0, 1), np.uint8))
        return fused

    def __array_finalize__(self, source: Array | None) -> None:
        if isinstance(source, FusedArray):
            self.__dict__.update(source.__dict__)
        else:
            self.facts = Facts()

    def __array_wrap__(self, array: Array, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __reduce__(self) -> Any:
        rebuild, arguments, state = tuple(super().__reduce__())
        return rebuild, arguments, (state, self.__dict__)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.__dict__.update(state[1])

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Self:
        return self.copy()

    @property
    def image(self) -> Array:
        """The same memory as a plain array."""
        return self.view(np.ndarray)

    @property
    def picture(self) -> Picture:
        """The values as a picture; of a view of another size without the alpha of the whole."""
        plain, frame = self.image, self.frame
        if frame is None or plain.dtype != DTYPE[frame.depth] or plain.ndim < 2:
            return replace(as_picture(plain, "the result"), notes=self.notes)
        if frame.depth == "float":
            values, alpha = np.atleast_3d(plain).astype(np.float64), None  # stored values; float32 means [0, 1]
        else:
            given = as_picture(plain, "the result")
            values, alpha = given.values, given.alpha
        if alpha is None and frame.alpha is not None and frame.alpha.shape == plain.shape[:2]:
            alpha = frame.alpha
        return replace(frame, values=values, alpha=alpha, notes=self.notes)

    def _lost(self, picture: Picture) -> list[str]:
        whole = self.frame and self.frame.alpha
        lost = whole is not None and picture.alpha is None
        return ["alpha of the whole does not fit a part of it: left out"] if lost else []


class FusedImage(Image.Image, Fused[Image.Image]):  # type: ignore[misc]  # `save` is PIL's
    """A PIL image that knows how it was made; so do pickles and deep copies, but not PIL's own copies."""

    @classmethod
    def of(cls, image: Image.Image, facts: Facts) -> Self:
        """A new PIL image as a result."""
        image.__class__ = cls
        assert isinstance(image, cls)
        image.facts = facts
        return image

    @property
    def image(self) -> Image.Image:
        """A plain PIL image."""
        return self.copy()

    @property
    def picture(self) -> Picture:
        """The image as a picture."""
        return replace(as_picture(self.image, "the result"), notes=self.notes)

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.facts

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.facts = state[1]


def in_kind(
    image: Source, source: Picture | Tensor, fused: FusedPicture | FusedTensor
) -> FusedArray | FusedTensor | FusedImage:
    """A result in the kind of its reference. image: as the user gave it; source: as it was fused."""
    if isinstance(image, Tensor):
        assert isinstance(fused, FusedTensor)
        return _tensor_like(image, fused.image, fused.facts)
    assert isinstance(source, Picture)
    made = fused.picture.pixels if isinstance(fused, FusedPicture) else to_array(fused.image)
    picture = replace(source, values=np.ascontiguousarray(made), notes=fused.notes)
    if isinstance(image, Image.Image):
        return _pil_like(picture, fused.facts)
    if not isinstance(image, np.ndarray) or (isinstance(image, FusedArray) and image.frame is not None):
        return FusedArray.of(np.asarray(picture), fused.facts, picture)
    values = picture.stored() if picture.depth != "float" else picture.pixels.astype(image.dtype)
    if picture.channels == 3 and picture.alpha is not None and image.shape[-1] == 4:
        values = np.concatenate([values, image[..., 3:]], axis=2)
    values = values[..., 0] if image.ndim == 2 and picture.channels == 1 else values
    return FusedArray.of(values, fused.facts, picture if picture.depth != "float" else None)


def _tensor_like(image: Tensor, pixels: Tensor, facts: Facts) -> FusedTensor:
    if image.dtype == torch.uint8:
        pixels = (pixels * 255 + 0.5).floor()
    pixels = pixels if image.ndim == 4 else pixels[0]
    pixels = pixels[0] if image.ndim == 2 and len(pixels) == 1 else pixels
    return FusedTensor.of(pixels.to(image.device, image.dtype), facts)


def _pil_like(picture: Picture, facts: Facts) -> FusedImage:
    if picture.channels == 3 or picture.alpha is not None:
        picture = replace(picture, depth="8", span=(0.0, 255.0))  # PIL has no colour of 16 bits
    values = np.asarray(picture)
    if picture.alpha is not None:
        cover = (picture.alpha * 255 + 0.5).astype(np.uint8)
        values = np.dstack([values, cover])
    image = Image.fromarray(values)
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return FusedImage.of(image, facts)
