"""Decoding of DICOM's compressed pixels by imagecodecs, as a plug-in of pydicom's decoders.

pydicom asks it for JPEG (12 bits), lossless JPEG, JPEG-LS, JPEG 2000 and HTJ2K after what else is installed.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

# transfer syntaxes (PS3.5 A.4), and the decoder of imagecodecs
DECODERS = {
    "1.2.840.10008.1.2.4.51": "jpeg",  # of 12 bits; Pillow decodes 8
    "1.2.840.10008.1.2.4.57": "ljpeg",
    "1.2.840.10008.1.2.4.70": "ljpeg",
    "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls",
    "1.2.840.10008.1.2.4.90": "jpeg2k",
    "1.2.840.10008.1.2.4.91": "jpeg2k",
    "1.2.840.10008.1.2.4.201": "jpeg2k",
    "1.2.840.10008.1.2.4.202": "jpeg2k",
    "1.2.840.10008.1.2.4.203": "jpeg2k",
}
DECODER_DEPENDENCIES = dict.fromkeys(DECODERS, ("numpy", "imagecodecs"))  # pydicom's messages name them


def register() -> None:
    """Add imagecodecs to pydicom's decoders, once a process."""
    get_decoder: Any = import_module("pydicom.pixels").get_decoder

    for syntax in DECODERS:
        decoder = get_decoder(syntax)
        if "imagecodecs" not in (*decoder.available_plugins, *decoder._unavailable):
            decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Whether imagecodecs is installed and has the decoder of a transfer syntax."""
    if uid not in DECODERS or find_spec("imagecodecs") is None:
        return False
    import imagecodecs

    return bool(getattr(imagecodecs, DECODERS[uid].upper()).available)


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode one frame of rows x columns x samples; pydicom's `runner` states them and takes what was found."""
    import imagecodecs

    stated = _size(source)
    if stated not in (None, (runner.rows, runner.columns)):
        raise ValueError(f"{stated} rows and columns in the stream, ({runner.rows}, {runner.columns}) in the header")
    name, samples = DECODERS[str(runner.transfer_syntax)], runner.samples_per_pixel
    size = (runner.rows, runner.columns, samples) if samples > 1 else (runner.rows, runner.columns)
    precision, signed = runner.bits_stored, bool(runner.pixel_representation)
    if name == "jpeg2k":
        precision = runner.get_option("j2k_precision", precision)
        signed = bool(runner.get_option("j2k_is_signed", signed))
    dtype = np.dtype(f"{'i' if signed and name == 'jpeg2k' else 'u'}{1 if precision <= 8 else 2}")
    if name == "jpeg" and precision <= 8:
        raise NotImplementedError("8 bits are Pillow's")
    options = {"bitspersample": precision} if name == "jpeg" else {}
    frame = getattr(imagecodecs, f"{name}_decode")(source, out=np.empty(size, dtype), **options)
    runner.set_option("bits_allocated", 8 * dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    if name == "jpeg2k" and str(runner.photometric_interpretation) in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")  # OpenJPEG has undone the transform
    return bytes(np.ascontiguousarray(frame).data)


def _size(source: bytes) -> tuple[int, int] | None:
    """Rows and columns that a stream's own header states, so that none is decoded into more than was allowed."""
    at = source.find(b"\xff\x4f\xff\x51", 0, 1024)  # JPEG 2000: SOC and SIZ (ISO 15444-1, A.5.1)
    if at >= 0:
        right, bottom, left, top = (int.from_bytes(source[at + 8 + i : at + 12 + i], "big") for i in (0, 4, 8, 12))
        return bottom - top, right - left
    at = 2
    while at + 9 < len(source) and source[at] == 0xFF:  # JPEG and JPEG-LS: segments until a frame header (ISO 10918-1)
        if source[at + 1] in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7):
            return int.from_bytes(source[at + 5 : at + 7], "big"), int.from_bytes(source[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(source[at + 2 : at + 4], "big")
    return None
