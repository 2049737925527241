"""Results of a fusion: pixels that carry notes, the reference and timings, and can be saved."""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, Self, SupportsIndex, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import Caution
from ..images.accept import HeldImage, as_picture
from ..images.convert import to_array
from ..images.picture import DTYPE, PEAK, SHOWN, Array, Depth, Picture, from_unit
from ..images.write import png_bytes
from ..reading.take import Source
from ..writing import write_image
from .sought import Restored

SHORT = 1000  # values up to which NumPy and PyTorch print all

Kind = TypeVar("Kind", bound=HeldImage)


@dataclass
class Facts:
    """Notes, reference, timings and records of a result; `Fused` describes the fields."""

    notes: list[str] = field(default_factory=list)
    reference: int = -1
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0
    restored: list[Restored] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    planes: dict[str, Tensor] = field(default_factory=dict)
    cut: tuple[slice, slice] | None = None


class Fused(Generic[Kind]):
    """A result of `fuse`, `Pipeline.run` or `Pipeline.fuse_pictures`.

    It is a numpy array for paths and arrays, a tensor for tensors, a PIL image for PIL images. Pickles and deep copies
    keep all attributes.

    notes: decisions made for the user, one line each. reference: index of the reference source, from 0; for a batch, of
    the first image's. seconds: of each stage; empty where they were not measured. evaluations: number of network
    evaluations. restored: what was found in each source, and whether it was undone. found: records of stages, for the
    manifest. planes: maps beside the result, (1, 1, H, W) in [0, 1] by name, such as the depth of a focus stack, 0 for
    the nearest frame. cut: rows and columns of the reference that the result was cut down to. frame: the reference
    without pixels, where it was a file or an array of integers.
    """

    notes: tuple[str, ...]
    reference: int
    seconds: dict[str, float]
    evaluations: int
    restored: list[Restored]
    found: dict[str, Any]
    planes: dict[str, Tensor]
    cut: tuple[slice, slice] | None
    facts: Facts
    frame: Picture | None

    @classmethod
    def of(cls, image: Kind, facts: Facts, frame: Picture | None = None) -> Self:
        """Make a result that shares the memory of `image`."""
        fused = cls._cast(image)
        vars(fused).update(vars(facts), notes=tuple(facts.notes), facts=facts, frame=frame)
        return fused

    @classmethod
    @abstractmethod
    def _cast(cls, image: Kind) -> Self: ...

    @property
    @abstractmethod
    def image(self) -> Kind:
        """The plain pixels: an ndarray, a tensor, a PIL image or a `Picture`."""

    @property
    def picture(self) -> Picture:
        """The result as a file takes it. Raises InputError for a batch of several images."""
        return replace(as_picture(self.image, "the result"), notes=self.notes)

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
        lost = self.frame is not None and self.frame.alpha is not None and picture.alpha is None
        notes = ["alpha of the whole does not fit a part of it: left out"] if lost else []
        return notes + write_image(path, picture, depth, png_level=png_level, quality=quality, strip=strip)

    def _described(self, pixels: str) -> str:
        """One line: what the result is, its reference, and how much there is to read in `notes`."""
        count, warned = len(self.notes), sum(isinstance(note, Caution) for note in self.notes)
        notes = f"{count} note{'s' if count != 1 else ''}" + (f", {warned} of them warnings" if warned else "")
        return f"<{type(self).__name__} {pixels}, like source {self.reference + 1}, {notes}>"

    def _repr_png_(self) -> bytes:
        """PNG for notebooks."""
        return png_bytes(self.picture.pixels, SHOWN)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return self.of, (self.image, self.facts, self.frame)

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Self:
        return self.of(deepcopy(self.image, memo), self.facts, self.frame)


class FusedPicture(Fused[Picture]):
    """A result of pictures: float32, before it is rounded to the reference's depth."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    @classmethod
    def _cast(cls, image: Picture) -> Self:
        return cls(image)

    @property
    def image(self) -> Picture:
        """The picture."""
        return self._picture

    picture = image

    def __repr__(self) -> str:
        return self._described(repr(self._picture))


class FusedTensor(Fused[Tensor], Tensor):
    """A tensor (B, C, H, W), or of the reference's shape; results computed from it are plain tensors."""

    @classmethod
    def _cast(cls, image: Tensor) -> Self:
        return image.as_subclass(cls)

    @property
    def image(self) -> Tensor:
        """The same memory as a plain tensor."""
        return self.as_subclass(Tensor)

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]  # as PyTorch has it
        """One line where PyTorch would leave out values, too."""
        return self._described(f"{tuple(self.shape)} {self.dtype}") if self.numel() > SHORT else repr(self.image)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return plain tensors from functions."""
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]


class FusedArray(Fused[Array], np.ndarray):
    """An array (H, W), (H, W, 1) or (H, W, 3) of the reference's type; (H, W, 4) where the reference array had alpha.

    Views and copies keep its attributes; results computed from it are plain arrays. `save` writes the alpha of files.
    """

    @classmethod
    def _cast(cls, image: Array) -> Self:
        return image.view(cls)

    def __array_finalize__(self, source: Array | None) -> None:
        if isinstance(source, FusedArray):
            vars(self).update(vars(source))

    def __repr__(self) -> str:
        """One line where NumPy would leave out values, too."""
        return self._described(f"{self.shape} {self.dtype}") if self.size > SHORT else super().__repr__()

    def __array_wrap__(self, array: Array, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    @property
    def image(self) -> Array:
        """The same memory as a plain array."""
        return self.view(np.ndarray)

    @property
    def picture(self) -> Picture:
        """The values as a picture; a view of another size lacks the alpha of the whole."""
        plain, frame = self.image, self.frame
        if frame is None or plain.dtype != DTYPE[frame.depth] or plain.ndim < 2:
            return super().picture
        if frame.depth == "float":
            values, alpha = np.atleast_3d(plain).astype(np.float64), None  # stored values; float32 means [0, 1]
        else:
            given = as_picture(plain, "the result")
            values, alpha = given.values, given.alpha
        if alpha is None and frame.alpha is not None and frame.alpha.shape == plain.shape[:2]:
            alpha = frame.alpha
        valid = frame.valid if frame.valid is not None and frame.valid.shape == plain.shape[:2] else None
        return replace(frame, values=values, alpha=alpha, valid=valid, notes=self.notes)


class FusedImage(Image.Image, Fused[Image.Image]):  # type: ignore[misc]  # `save` is PIL's
    """A PIL image with the attributes of a result; PIL's own copies are plain images."""

    @classmethod
    def _cast(cls, image: Image.Image) -> Self:
        image.__class__ = cls
        assert isinstance(image, cls)
        return image

    @property
    def image(self) -> Image.Image:
        """A plain PIL image."""
        return self.copy()


def in_kind(
    image: Source, source: Picture | Tensor, fused: FusedPicture | FusedTensor
) -> FusedArray | FusedTensor | FusedImage:
    """Turn a result into the kind of its reference. image: as the user gave it; source: as it was fused."""
    facts = fused.facts
    if isinstance(image, Tensor):
        assert isinstance(fused, FusedTensor)
        return FusedTensor.of(_tensor_like(image, fused.image), facts)
    assert isinstance(source, Picture)
    source = source.part(*facts.cut) if facts.cut else source
    picture = fused.picture if isinstance(fused, FusedPicture) else with_gaps(source, to_array(fused.image))
    frame = replace(picture, values=np.empty((0, 0, 1), np.uint8))
    if isinstance(image, Image.Image):
        return FusedImage.of(_pil_image(picture), facts)
    if not isinstance(image, np.ndarray) or (isinstance(image, FusedArray) and image.frame is not None):
        return FusedArray.of(np.asarray(picture), facts, frame)
    floats = picture.depth == "float"
    values = picture.stored().astype(image.dtype)
    if picture.channels == 3 and picture.alpha is not None and image.shape[-1] == 4:
        alpha = from_unit(picture.alpha, picture.depth, (0.0, PEAK[picture.depth]))
        values = np.concatenate([values, alpha[:, :, None].astype(image.dtype)], axis=2)
    values = values[..., 0] if image.ndim == 2 and picture.channels == 1 else values
    return FusedArray.of(values, facts, None if floats else frame)


def with_gaps(main: Picture, pixels: Array) -> Picture:
    """The reference with other pixels (H, W, C): its alpha, or nodata, stays where no other source has data (NaN)."""
    if main.valid is None:
        return replace(main, values=pixels)
    anywhere: Array = np.asarray(np.isfinite(pixels).all(axis=2))
    alpha = None if main.alpha is None else np.where(main.valid, main.alpha, anywhere.astype(np.float32))
    valid = None if anywhere.all() else anywhere
    return replace(main, values=np.nan_to_num(pixels, copy=False), alpha=alpha, valid=valid)


def _tensor_like(image: Tensor, pixels: Tensor) -> Tensor:
    """Give `pixels` (B, C, H, W) in [0, 1] the shape, type and device of `image`."""
    if image.dtype == torch.uint8:
        pixels = (pixels * 255 + 0.5).floor()
    pixels = pixels if image.ndim == 4 else pixels[0]
    pixels = pixels[0] if image.ndim == 2 and len(pixels) == 1 else pixels
    return pixels.to(image.device, image.dtype)


def _pil_image(picture: Picture) -> Image.Image:
    if picture.channels == 3 or picture.alpha is not None:
        picture = replace(picture, depth="8", span=(0.0, 255.0))  # PIL has no colour of 16 bits
    values = np.asarray(picture)
    if picture.alpha is not None:
        values = np.dstack([values, (picture.alpha * 255 + 0.5).astype(np.uint8)])
    image = Image.fromarray(values)
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return image
