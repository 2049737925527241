"""Errors that a user can cause. The CLI prints each as one line and exits with code 2.

FusionkitError
├── PluginError          a plug-in is unknown, broken, ambiguous or breaks its contract
│   ├── UnknownPlugin
│   ├── PluginClash
│   └── BrokenPlugin
├── OptionError          an option's name or value is wrong
│   └── NoEffect         an option is not read with the others that were chosen
├── InputError           an image cannot be used
│   ├── ImageReadError
│   ├── SizeMismatch
│   └── NotAligned       a source was to be aligned, and where it lies was not found
├── OutputError          a result cannot be written
└── WeightsError         weights are missing, damaged or of another architecture

What may spoil a result without stopping it is a `Caution` among its notes; in Python a `FusionWarning` says it, too.
"""

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import ClassVar


class FusionkitError(Exception):
    """What is wrong, what was expected, what to do: one line.

    mends: choices of a method that mend it, by what a button says; {reference} stands for the reference's name.
    """

    mends: ClassVar[Mapping[str, Mapping[str, object]]] = {}


class PluginError(FusionkitError):
    """A plug-in is unknown, broken, ambiguous or breaks its contract."""


class UnknownPlugin(PluginError):
    """No installed plug-in has this name."""


class PluginClash(PluginError):
    """Two distributions offer a plug-in of one name."""


class BrokenPlugin(PluginError):
    """A plug-in cannot be imported or does not keep its contract."""


class OptionError(FusionkitError):
    """An option's name or value is wrong."""


class NoEffect(OptionError):
    """An option would change nothing: no part reads it with the other options that were chosen."""


class InputError(FusionkitError):
    """An image cannot be used."""


class ImageReadError(InputError):
    """A file cannot be read as an image without guessing."""


class SizeMismatch(InputError):
    """The sources do not have one size."""

    mends = {
        "Resize to {reference}": {"resize": "reference"},
        "Align with {reference}": {"align": "affine"},
    }


class NotAligned(InputError):
    """Where a source lies in the reference was not found with confidence."""

    mends = {"Fuse it as it lies": {"align_or_keep": True}}


class OutputError(FusionkitError):
    """A result cannot be written."""


class WeightsError(FusionkitError):
    """Weights are missing, damaged or of another architecture."""


class FusionWarning(UserWarning):
    """Something may have spoiled a result, and an option or another source mends it."""


class Caution(str):
    """A note of what may have spoiled a result: a guess, or a fault that is still in it."""

    __slots__ = ()


def warn_of(notes: Iterable[str]) -> None:
    """Warn of the cautions among notes, each once, at the line outside of this package that asked for the result."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    for note in dict.fromkeys(note for note in notes if isinstance(note, Caution)):
        warnings.warn(note, FusionWarning, stacklevel=level)


def one_line(error: object) -> str:
    """The text of an error on one line, without repeated white space."""
    return " ".join(str(error).split())
