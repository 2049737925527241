"""Reader of TIFF of any depth; Pillow would reduce 16-bit colour to 8 bits, and show one page of several."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.metadata import Metadata, read_tiff_metadata
from fusionkit.images.picture import Array

from .pillow import CODECS, ORIENTATION_TAG, ORIENTATIONS, check_pixels, read_pillow

__all__ = ["TiffReader"]

MOST_PAGES = 10_000
ICC, TOP = 34675, 281  # tags: colour profile, MaxSampleValue


class TiffReader(Reader):
    """TIFF of one page, 1 to 16 bits or float, grey or RGB, upright; Pillow reads other colours of 8 bits."""

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        return [_read_tiff(path, max_pixels)]


def _read_tiff(path: Path, max_pixels: int) -> Stored:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our errors describe damaged files
    with tifffile.TiffFile(path) as tiff:
        full: list[Any] = [p for p in _pages(path, tiff) if not getattr(p, "is_reduced", False)]
        if len(full) != 1:
            raise ImageReadError(f"{path}: holds {len(full)} pages; save the one you want as a single image")
        page = full[0]
        assert isinstance(page, tifffile.TiffPage)
        check_pixels(path, page.imagewidth, page.imagelength, max_pixels)
        if page.imagedepth != 1:
            raise ImageReadError(f"{path}: a volume of {page.imagedepth} slices; save the slice you want")
        kind = getattr(page.photometric, "name", str(page.photometric))
        bits = page.bitspersample
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB"):
            if bits > 8:
                raise ImageReadError(f"{path}: {bits}-bit TIFF in {kind} colours; save it as RGB or grey")
            return read_pillow(path, max_pixels)
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if bits <= 8 or (page.samplesperpixel == 1 and bits in (16, 32)):
                return read_pillow(path, max_pixels)  # exact for these
            codec = getattr(page.compression, "name", page.compression)
            raise ImageReadError(
                f"{path}: {codec} compression of {bits}-bit colour needs a codec; {CODECS}, or save it uncompressed"
            ) from None
        values, alpha, notes = _tiff_samples(path, page, values)
        tags = {code: page.tags[code].value for code in (ICC, ORIENTATION_TAG, TOP) if code in page.tags}
        white = None
        if values.dtype == np.uint16 and (bits < 16 or TOP in tags):
            white = float(2**bits - 1 if bits < 16 else np.max(tags[TOP]))
        orientation = int(tags.get(ORIENTATION_TAG, 1))
        upright, turned = ORIENTATIONS.get(orientation, ORIENTATIONS[1]), orientation != 1
        return Stored(
            upright(values),
            None if alpha is None else upright(alpha),
            white=white,
            inverted=kind == "MINISWHITE",
            icc=bytes(tags[ICC]) if ICC in tags else None,
            format="TIFF",
            metadata=_metadata(path, notes, turned=turned),
            notes=tuple(notes),
            turned=turned,
        )


def _metadata(path: Path, notes: list[str], *, turned: bool) -> Metadata:
    metadata = read_tiff_metadata(path, notes)
    if turned and metadata.geo:
        notes.append("its GeoTIFF tags describe the stored picture, before it was turned, and were left out")
        return replace(metadata, geo=())
    return metadata


def _pages(path: Path, tiff: Any) -> Iterator[Any]:
    """The pages of a file. Raises ImageReadError where they link in a circle."""
    seen = set[int]()
    for page in tiff.pages:
        if page.offset in seen or len(seen) >= MOST_PAGES:
            raise ImageReadError(f"{path}: cannot be read: its pages link in a circle; export or copy it again")
        seen.add(page.offset)
        yield page


def _tiff_samples(path: Path, page: Any, values: Array) -> tuple[Array, Array | None, list[str]]:
    """Turn a page's array into values (H, W, 1 or 3), alpha or None, and notes."""
    if values.dtype == np.bool_ or page.bitspersample == 1:
        values = values.astype(np.uint8) * np.uint8(255)
    elif page.bitspersample < 8:
        values = (values.astype(np.float32) * 255 / (2**page.bitspersample - 1)).round().astype(np.uint8)
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.shape[0] == page.samplesperpixel and values.shape[1:] == (page.imagelength, page.imagewidth):
        values = np.moveaxis(values, 0, 2)  # planes stored one after another
    colors = 3 if page.photometric.name == "RGB" else 1
    extra = values.shape[2] - colors
    if extra < 0:
        raise ImageReadError(f"{path}: {values.shape[2]} channels for {page.photometric.name}; the file is damaged")
    if extra == 0:
        return values, None, []
    kinds = [int(e) for e in page.extrasamples]
    notes = [] if extra == 1 else [f"{extra} extra channels, all but alpha ignored"]
    if kinds and kinds[0] in (1, 2):
        alpha = values[:, :, colors]
        if kinds[0] == 1:
            notes.append("alpha is premultiplied in the file; colours were used as stored")
        return values[:, :, :colors], alpha, notes
    return values[:, :, :colors], None, notes or ["an extra channel of unstated meaning was ignored"]
