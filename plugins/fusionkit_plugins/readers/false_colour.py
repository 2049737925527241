"""False colours of thermal cameras: undone where the palette is in the file, noticed where it is not."""

import struct
from typing import Any

import numpy as np

from fusionkit.errors import Caution
from fusionkit.images.picture import Array

# of a palette that is a scale
LEAST_LEVELS = 32  # colours that are used
STEP, APART = 28, 8  # largest step to the next colour, least to any beyond NEAR of them, in levels of one channel
NEAR = 0.1
COLOURED = 60  # difference of channels that some colour has; a ramp of grey needs no undoing
# of FLIR's records (as ExifTool's FLIR.pm describes them)
PALETTE_RECORD, NAME, COLOURS = 0x22, slice(0x50, 0x70), 0x70
MATCHES = 24  # levels, of all channels together, within which half of the pixels are on the file's palette
# of a picture in a palette like iron: luma tells the colour, which goes from violet to yellow
FEW, BINS, SCATTER = 10_000, 24, 6.0
DARK, SCAN = 8, 0.3  # luma of black, and the share of it that tells a scan
BLUE, RED, LIGHT = 25, 30, -25  # least Cb of dark and Cr of middling values, largest Cb of bright ones


def levels_of_palette(image: Any, notes: list[str]) -> Array | None:
    """Values (H, W) of 8 bits that a picture of Pillow's mode P shows in colours, where its palette is a scale.

    Not where it is grey, as many pictures' are, or where colours stand in any order, as in drawings and photographs.
    """
    if "transparency" in image.info:
        return None
    index = np.asarray(image)
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    colours = np.array(image.getpalette("RGB"), int).reshape(-1, 3)[used[0] : used[-1] + 1]
    if len(used) < LEAST_LEVELS or not _is_scale(colours):
        return None
    notes.append(Caution("shows values in a palette of colours, which is in the file: read as the values, in grey"))
    return _spread(index - used[0], len(colours))


def _is_scale(colours: Array) -> bool:
    """Whether colours (N, 3) follow one another smoothly, none twice, and are no greys."""
    if np.ptp(colours, axis=1).max() < COLOURED or np.abs(np.diff(colours, axis=0)).max() > STEP:
        return False
    apart = np.abs(colours[:, None] - colours[None]).max(2)
    far = np.abs(np.subtract.outer(*(np.arange(len(colours)),) * 2)) > NEAR * len(colours)
    return bool(apart[far].min() >= APART)


def _spread(index: Array, count: int) -> Array:
    """Indices below `count` over all of 8 bits."""
    return np.rint(index * (255 / (count - 1))).astype(np.uint8)


def levels_of_flir(image: Any, pixels: Array, notes: list[str]) -> Array | None:
    """Values (H, W) of 8 bits that a FLIR camera's JPEG shows in the palette that it holds; None where it does not."""
    found = _flir_palette(image)
    if found is None:
        return None
    name, palette = found
    from scipy.spatial import cKDTree

    every, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    best: tuple[float, Array] | None = None
    for colours in palette:  # in full range, or in that of video
        distance, nearest = (np.asarray(found) for found in cKDTree(colours).query(every))
        off = float(np.median(distance[inverse]))
        best = (off, nearest) if best is None or off < best[0] else best
    if best is None or best[0] > MATCHES:
        return None  # a photograph, or edges of one drawn over the colours
    notes.append(
        Caution(
            f"a thermal camera's picture in its palette{f' {name}' if name else ''}, which is in the file: read as "
            "levels of grey; temperatures need a reader of FLIR files"
        )
    )
    return _spread(best[1][inverse], len(palette[0])).reshape(pixels.shape[:2])


def _flir_palette(image: Any) -> tuple[str, list[Array]] | None:
    """Name and colours (N, 3) of the palette in a FLIR JPEG, as RGB from full range and from that of video."""
    parts = {
        data[6]: data[8:] for _, data in getattr(image, "applist", ()) if data.startswith(b"FLIR\0") and len(data) > 8
    }
    block = b"".join(parts[number] for number in sorted(parts))
    try:
        order = ">" if 100 <= struct.unpack_from(">I", block, 20)[0] < 200 else "<"
        at, count = struct.unpack_from(f"{order}II", block, 24)
        for entry in range(at, at + 32 * min(count, 1000), 32):
            kind, offset, length = struct.unpack_from(f"{order}H10xII", block, entry)
            record = block[offset : offset + length]
            if kind == PALETTE_RECORD and (number := record[0]) > 1 and len(record) >= COLOURS + 3 * number:
                y, cr, cb = (
                    np.frombuffer(record[COLOURS : COLOURS + 3 * number], np.uint8).reshape(-1, 3).T.astype(float)
                )
                name = record[NAME].split(b"\0")[0].decode("latin-1").strip()
                return name, [
                    _rgb(y, cb, cr),
                    _rgb((y - 16) * 255 / 219, *((c - 128) * 255 / 224 + 128 for c in (cb, cr))),
                ]
    except (struct.error, IndexError):
        pass  # damaged, or bytes that only look like FLIR's
    return None


def _rgb(y: Array, cb: Array, cr: Array) -> Array:
    """RGB (N, 3) of JFIF's YCbCr."""
    rgb = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], 1
    )
    return rgb.clip(0, 255)


def looks_false(pixels: Array) -> bool:
    """Whether a picture (H, W, 3) of 8 bits has the colours of a palette like iron: by luma from violet over red to
    yellow, with hardly another colour at any luma.

    Not those with much black, which are scans (PET), whose palettes are the field's custom.
    """
    step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1] / FEW)))
    few = pixels[::step, ::step].reshape(-1, 3).astype(np.float32)
    y = few @ np.array([0.299, 0.587, 0.114], np.float32)
    cb, cr = (few[:, 2] - y) * 0.564, (few[:, 0] - y) * 0.713
    bins = np.minimum(y.astype(int) * BINS // 256, BINS - 1)
    shown = [at for b in range(BINS) if (at := np.flatnonzero(bins == b)).size > few.shape[0] / 500]
    if len(shown) < BINS // 3 or np.mean(y < DARK) > SCAN:
        return False
    middle = np.array([[np.median(c[at]) for at in shown] for c in (cb, cr)])
    spread = [
        np.median(np.abs(c[at] - m))
        for c, row in zip((cb, cr), middle, strict=True)
        for at, m in zip(shown, row, strict=True)
    ]
    blue, red, light = middle[0].argmax(), middle[1].argmax(), middle[0].argmin()
    goes = blue < light and middle[0, blue] >= BLUE and middle[1, red] >= RED and middle[0, light] <= LIGHT
    return bool(goes and np.median(spread) <= SCATTER and np.quantile(spread, 0.8) <= 2 * SCATTER)
