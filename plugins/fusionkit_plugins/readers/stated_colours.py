"""What files say of their colours by numbers: an ICC profile where these state another space than sRGB.

Of the chunks of a PNG (PNG 3, 11.3.2) cICP is read before gAMA and cHRM; a profile in the file is the reader's to read.
"""

import struct
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from fusionkit.extras import install

from ..readings import chunks_of

LONGEST = 32  # bytes of cHRM
KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs")
D65 = (0.3127, 0.3290)
BT709, BT2020, P3 = (
    (0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    (0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
)
# ITU-T H.273: codes of primaries, and of transfer functions: their exponent, None for sRGB's curve
PRIMARIES = {1: BT709, 9: BT2020, 12: P3}
TRANSFERS = {13: None, 4: 2.2, 5: 2.8, 8: 1.0}
HDR = {16: "PQ", 18: "HLG"}
SRGB_GAMMA, CLOSE = 1 / 0.45455, 0.01  # of gAMA; a difference that writers' rounding makes


def kept_chunks(stream: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks of KEPT before a PNG's pixels, as (name, content); the stream is left where it was."""
    before = stream.tell()
    found = [(name, stream.read(length)) for name, length in chunks_of(stream) if name in KEPT and length <= LONGEST]
    stream.seek(before)
    return tuple(found)


def stated_profile(chunks: tuple[tuple[bytes, bytes], ...], notes: list[str], *, grey: bool) -> bytes | None:
    """A profile of the space that chunks state; None for sRGB, and, with a note, for what no profile can say."""
    stated = dict(chunks)
    try:
        if b"cICP" in stated:
            return profile_of_codes(D65, PRIMARIES.get(stated[b"cICP"][0]), stated[b"cICP"][1], notes, grey=grey)
        if b"sRGB" in stated or b"gAMA" not in stated:
            return None
        gamma = 100_000 / struct.unpack(">I", stated[b"gAMA"])[0]
        white: tuple[float, ...] = D65
        primaries: tuple[float, ...] = BT709
        if b"cHRM" in stated:
            numbers = [n / 100_000 for n in struct.unpack(">8I", stated[b"cHRM"])]
            white, primaries = tuple(numbers[:2]), tuple(numbers[2:])
        return profile_of(white, primaries, None if abs(gamma - SRGB_GAMMA) < CLOSE else gamma, notes, grey=grey)
    except (struct.error, LookupError, ArithmeticError, ValueError, RuntimeError):
        notes.append("what it says of its colours (gAMA, cHRM, cICP) is damaged: taken as sRGB")
        return None


def profile_of_codes(
    white: tuple[float, ...], primaries: tuple[float, ...] | None, transfer: int, notes: list[str], *, grey: bool
) -> bytes | None:
    """A profile as of `profile_of`, by the code of a transfer function. primaries: None: of a code not known here."""
    if (grey or primaries) and transfer in TRANSFERS:
        return profile_of(white, primaries or BT709, TRANSFERS[transfer], notes, grey=grey)
    what = HDR.get(transfer, f"primaries or a curve that are not known here (transfer function {transfer} of H.273)")
    notes.append(f"its colours are stated as {what}, which is not converted: values were used as stored")
    return None


def profile_of(
    white: tuple[float, ...], primaries: tuple[float, ...], gamma: float | None, notes: list[str], *, grey: bool
) -> bytes | None:
    """A profile of a white point, primaries and an exponent, None for sRGB's curve; None where it is sRGB itself."""
    if gamma is None and (grey or np.allclose((*white, *primaries), (*D65, *BT709), atol=CLOSE / 2)):
        return None
    try:
        codecs: Any = import_module("imagecodecs")
    except ImportError:
        notes.append(
            f"it states colours other than sRGB, which were used as stored; {install('codecs')} to convert them"
        )
        return None
    x = np.linspace(0, 1, 4096)
    curve = x**gamma if gamma else np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    corners = [part for at in (0, 2, 4) for part in (*primaries[at : at + 2], 1.0)]
    table = np.round(curve * 65535).astype(np.uint16)
    stated = {"whitepoint": (*white, 1.0), "transferfunction": table, **({} if grey else {"primaries": corners})}
    return bytes(codecs.cms_profile("gray" if grey else "rgb", **stated))
