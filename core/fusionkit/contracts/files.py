"""What readers and writers of files answer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..images.lazy import LazySequence
from ..images.picture import Array, Depth, FromFile, Span
from ..images.place import Place
from .base import Plugin


@dataclass(frozen=True, eq=False)
class Stored(FromFile):
    """One picture as its file stores it, before anything is scaled.

    values: (H, W, 1 or 3), upright, integers or float; of a file with other bands all of them, from which users choose
    by `bands`. alpha: (H, W) of the same type, in its full range. white: the stored value that the file says is white,
    None for the type's largest (1 for float). inverted: values grow towards black. window: the values that the file
    says are to be shown as black and white. series: more values of the same kind (a volume's), from which a range is
    taken for all its pictures alike. readings: of a result alone, values that sources measured at its pixels, by the
    source's name: (H, W) float32, NaN where there are none. Others: see `fusionkit.images.picture.FromFile`.
    """

    values: Array
    alpha: Array | None = None
    white: float | None = None
    inverted: bool = False
    window: Span | None = None
    series: Array | None = None
    readings: tuple[tuple[str, Array], ...] = ()


class Pictures(LazySequence[Stored]):
    """Pictures of a file that are decoded one by one, when they are asked for.

    count: how many. decode: the picture of an index, from 0. main: the first is what the file shows, the others go with
    it (a gain map, a second eye); it is read where no number is given. axes: along which pictures differ, where there
    are several, with their lengths ("2 channels", "5 slices").
    """

    def __init__(
        self, count: int, decode: Callable[[int], Stored], *, main: bool = False, axes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(count, decode)
        self.main, self.axes = main, axes


class Reader(Plugin, ABC):
    """Takes image files of some formats; its record says which (`fusionkit.ReaderRecord`).

    It has no options that users can give, since files choose their reader. What is wrong with a file is raised as
    `fusionkit.errors.ImageReadError` in one line; anything else that is raised becomes one, too.
    """

    @abstractmethod
    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """All pictures of a file, in their order; `Pictures` decodes them when they are asked for.

        An empty answer declines a file that, after a look inside, is not one of this reader's: the next one is asked.
        More than `max_pixels` in one are refused before they are decoded.
        """

    def slice_of(self, path: Path) -> tuple[str, Place, tuple[int, int]] | None:
        """For a file of one slice of a volume: its series, its place with the volume, (width, height).

        Called for all files of a folder, so that pixels are better not read. None for all other files.
        """
        return None


class Writer(Plugin, ABC):
    """Writes image files of some formats; its record says which, and what they hold (`fusionkit.WriterRecord`).

    A result chooses its writer by its extension. Of the options of results, `png_level` and `quality`, a writer gets
    those that its options model has a field for.
    """

    @abstractmethod
    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write a file, under this temporary name; returns notes on what was not kept, one line each.

        stored: what of the result the record says that such files hold, and nothing else. values: (H, W, 1 or 3) of
        uint8, uint16 or float32, one of the record's depths; alpha: (H, W) of the same type in its full range. window:
        the values of black and white. metadata.exif: the whole block of the result; empty where metadata are to be left
        out. valid: where the result has data; elsewhere values are `nodata`, which no other pixel has. place: where the
        pixels lie. What an encoder raises becomes one line for the user.
        """

    def write_volume(self, path: Path, slices: Sequence[Stored]) -> Sequence[str]:
        """Write the slices of a volume, in their order, as one file; for writers whose record says `volumes`.

        All have one size, depth and number of channels; their places say how they follow one another.
        """
        raise TypeError(f"{type(self).__name__} writes no volumes")

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """Why such an image cannot be written, beyond what the record says, and what to do; "" where it can.

        Called before anything is computed.
        """
        return ""
