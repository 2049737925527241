"""Reader of TIFF of any depth; Pillow would reduce 16-bit colour to 8 bits, and show one page of several."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Pictures, Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.extras import install
from fusionkit.images.metadata import GDAL_NODATA, Metadata, read_tiff_metadata
from fusionkit.images.picture import Array

from ..readings import page_name, shown
from .pillow import ORIENTATION_TAG, ORIENTATIONS, PREMULTIPLIED, check_pixels, read_pillow

MOST_PAGES = 100_000
NEAR = 5e-6  # relative difference up to which a float is GDAL's nodata: its tag is text of six digits or more
MOST_SAMPLES = 4  # a pixel, up to which `max_pixels` bounds memory
PHOTOMETRIC, ICC, TOP = 262, 34675, 281  # tags; TOP: MaxSampleValue
REDUCED, MASK = 1, 4  # bits of the tag NewSubfileType
ALPHAS = (1, 2)  # extra samples that are alpha: premultiplied, and not
FAX = (2, 3, 4)  # compressions of CCITT
AXES = {"Z": "slice", "C": "channel", "T": "time", "P": "position"}  # letters of ImageJ and OME


class TiffReader(Reader):
    """TIFF of 1 to 16 bits or float, grey, RGB or of more bands, upright; Pillow reads other colours of 8 bits.

    Each page of full size is a picture; smaller copies are passed over. A mask page (GDAL's internal masks) is the
    alpha of the page before it. Pixels of GDAL's nodata value in all bands have no data. Of results with readings the
    fused picture is the main one.
    """

    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """Return the pictures, decoded when they are asked for."""
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our errors describe damaged files
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in _pages(path, tiff) if not page.subfiletype & REDUCED]
            masks = {page.index: page for page in pages if page.subfiletype & MASK}
            full = [page for page in pages if page.index not in masks]
            full = [page for page in full if not any(_preview(page, other) for other in full)]
            if not full:
                raise ImageReadError(f"{path}: holds no picture of full size, but previews; export the picture itself")
            if len(full) == 1 and (count := _contiguous(tiff)) > 1:
                check_pixels(path, full[0].imagewidth, full[0].imagelength, max_pixels)
                return Pictures(count, lambda i: _read_contiguous(path, i))
            order, names, axes = _ordered(tiff, [page.index for page in full])
            shapes = {page.index: page.shape[:2] for page in pages}
            measured = {page.index: name for page in full if (name := page_name(page))}

        def decode(i: int) -> Stored:
            index = order[i]
            mask = index + 1 if index + 1 in masks and shapes[index + 1] == shapes[index] else None
            stored = _read_page(path, max_pixels, index, mask)
            return (
                shown(stored, measured[index]) if index in measured else replace(stored, name="" if main else names[i])
            )

        main = bool(measured) and order[0] not in measured
        return Pictures(len(order), decode, main=main, axes=axes)


def _preview(page: Any, other: Any) -> bool:
    """Whether a page is a smaller copy of another, although no tag says so."""
    (height, width), (rows, columns) = page.shape[:2], other.shape[:2]
    smaller = width < columns and height < rows and page.samplesperpixel == other.samplesperpixel
    return smaller and abs(width * rows - height * columns) <= max(rows, columns)


def _contiguous(tiff: Any) -> int:
    """Number of pictures behind the one page of large files of ImageJ."""
    page = tiff.pages[0]
    if not tiff.is_imagej or page.compression != 1:
        return 1
    held = (tiff.filehandle.size - page.dataoffsets[0]) // page.nbytes
    return min(held, int(np.prod(tiff.series[0].shape)) // int(np.prod(page.shape)))


def _read_contiguous(path: Path, index: int) -> Stored:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        count = int(np.prod(page.shape))
        at = page.dataoffsets[0] + index * count * page.dtype.itemsize
        values = np.fromfile(path, page.dtype.newbyteorder(tiff.byteorder), count, offset=at).astype(page.dtype)
        values, alpha, notes = _tiff_samples(path, page, values.reshape(page.shape))
    return Stored(values, alpha, format="TIFF", name=f"picture {index + 1}", notes=tuple(notes))


def _ordered(tiff: Any, indices: list[int]) -> tuple[list[int], list[str], tuple[str, ...]]:
    """Pages in the order that ImageJ or OME states, the pictures' names, and the axes along which they differ."""
    names = [f"page {i + 1}" if len(indices) > 1 else "" for i in range(len(indices))]
    if not (tiff.is_imagej or tiff.is_ome) or len(indices) < 2:
        return indices, names, ()
    series = tiff.series[0]
    pages = [page.index for page in series.pages if page is not None]
    lengths = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXS" and n > 1]
    if sorted(indices) != sorted(pages) or np.prod([n for _, n in lengths]) != len(pages):
        return indices, names, ()
    words = [AXES.get(axis, axis) for axis, _ in lengths]
    places = np.ndindex(*(n for _, n in lengths))
    names = [", ".join(f"{word} {at + 1}" for word, at in zip(words, place, strict=True)) for place in places]
    return pages, names, tuple(f"{n} {word}s" for word, (_, n) in zip(words, lengths, strict=True))


def _read_page(path: Path, max_pixels: int, index: int, mask: int | None) -> Stored:
    """Read the page of an index. mask: the index of the page that says where it has data."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[index]
        assert isinstance(page, tifffile.TiffPage)
        check_pixels(path, page.imagewidth, page.imagelength * -(-page.samplesperpixel // MOST_SAMPLES), max_pixels)
        if page.imagedepth != 1:
            raise ImageReadError(f"{path}: a volume of {page.imagedepth} slices; save the slice you want")
        kind, bits = _kind(page), page.bitspersample
        if not isinstance(bits, int):
            raise ImageReadError(f"{path}: channels of {', '.join(map(str, bits))} bits; save it with one depth")
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB"):
            if bits > 8:
                raise ImageReadError(f"{path}: {bits}-bit TIFF in {kind} colours; save it as RGB or grey")
            return read_pillow(path, max_pixels, index)
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if bits <= 8 or (page.samplesperpixel == 1 and bits in (16, 32)):
                return read_pillow(path, max_pixels, index)  # exact for these
            codec = getattr(page.compression, "name", page.compression)
            raise ImageReadError(
                f"{path}: {codec} compression of {bits}-bit colour needs a codec; {install('codecs')}, "
                "or save it uncompressed"
            ) from None
        values, alpha, notes = _tiff_samples(path, page, values)
        tags = {code: page.tags[code].value for code in (ICC, ORIENTATION_TAG, TOP, GDAL_NODATA) if code in page.tags}
        shown = None if mask is None else tiff.pages[mask].asarray() > 0
    white = None
    if values.dtype == np.uint16 and (bits < 16 or TOP in tags):
        white = float(2**bits - 1) if bits < 16 else _number(tags[TOP], 0) or None
    orientation = _number(tags.get(ORIENTATION_TAG), 1)
    upright, turned = ORIENTATIONS.get(orientation, ORIENTATIONS[1]), orientation != 1
    metadata = _metadata(path, notes, page.offset, turned=turned)
    nodata = _nodata(tags.get(GDAL_NODATA, ""), values.dtype)
    valid = _valid(values, nodata, shown)
    if shown is not None and alpha is None:
        alpha = np.where(shown, *_full(values.dtype))
    return Stored(
        upright(values),
        None if alpha is None else upright(alpha),
        white=white,
        inverted=kind == "MINISWHITE",
        icc=tags[ICC] if isinstance(tags.get(ICC), bytes) else None,
        format="TIFF",
        metadata=metadata,
        notes=tuple(notes),
        turned=turned,
        valid=None if valid is None else upright(valid),
        nodata=nodata,
    )


def _kind(page: Any) -> str:
    """What samples stand for; without the tag RGB, or black is 0 but for fax compression, as libtiff has it."""
    if PHOTOMETRIC not in page.tags and page.compression not in FAX:
        return "RGB" if page.samplesperpixel >= 3 else "MINISBLACK"
    return getattr(page.photometric, "name", "unknown")


def _number(value: Any, default: int) -> int:
    """A tag's number, the largest of several; damaged files hold anything."""
    numbers = value if isinstance(value, tuple) else (value,)
    return max(numbers) if all(isinstance(n, int) for n in numbers) else default


def _full(dtype: Any) -> tuple[Any, Any]:
    """Opaque and transparent, as alpha beside values of a type."""
    kept = dtype if dtype in (np.uint8, np.uint16) else np.dtype(np.float32)
    return kept.type(np.iinfo(kept).max if kept.kind == "u" else 1), kept.type(0)


def _nodata(text: Any, dtype: Any) -> float | None:
    """The value of GDAL's tag, rounded to the type of the pixels; None where these cannot hold it."""
    try:
        value = float(str(text).strip("\0 ").replace(",", ".").split()[0])  # as GDAL's CPLAtofM reads it
    except (ValueError, IndexError):
        return None
    if dtype.kind == "f":
        most = np.finfo(dtype).max
        return float(dtype.type(np.clip(value, -most, most)))  # NaN stays NaN
    limits = np.iinfo(dtype)
    return value if value.is_integer() and limits.min <= value <= limits.max else None


def _valid(values: Array, nodata: float | None, shown: Array | None) -> Array | None:
    """Where a page has data: (H, W); None where it has everywhere."""
    valid = np.ones(values.shape[:2], bool) if shown is None else shown.copy()
    if nodata is not None:
        near = NEAR if values.dtype.kind == "f" else 0
        is_none = np.isnan(values) if np.isnan(nodata) else np.isclose(values, nodata, rtol=near, atol=0)
        valid &= ~is_none.all(2)
    return None if valid.all() else valid


def _metadata(path: Path, notes: list[str], offset: int, *, turned: bool) -> Metadata:
    metadata = read_tiff_metadata(path, notes, offset)
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
    """Turn a page's array into values of all bands (H, W, N), alpha or None, and notes."""
    if values.dtype == np.bool_ or page.bitspersample == 1:
        values = values.astype(np.uint8) * np.uint8(255)
    elif page.bitspersample < 8:
        values = (values.astype(np.float32) * 255 / (2**page.bitspersample - 1)).round().astype(np.uint8)
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.shape[0] == page.samplesperpixel and values.shape[1:] == (page.imagelength, page.imagewidth):
        values = np.moveaxis(values, 0, 2)  # planes stored one after another
    colors = 3 if _kind(page) == "RGB" else 1
    extra = values.shape[2] - colors
    if extra < 0:
        raise ImageReadError(f"{path}: {values.shape[2]} channels for {_kind(page)}; the file is damaged")
    kinds = [int(e) for e in page.extrasamples][:extra]
    at = next((colors + i for i, kind in enumerate(kinds) if kind in ALPHAS), None)
    if at is None:
        return values, None, []
    notes = [PREMULTIPLIED] if kinds[at - colors] == 1 else []
    return np.delete(values, at, axis=2), values[:, :, at], notes
