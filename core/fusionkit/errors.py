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
"""

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "BrokenPlugin",
    "FusionkitError",
    "ImageReadError",
    "InputError",
    "NoEffect",
    "NotAligned",
    "OptionError",
    "OutputError",
    "PluginClash",
    "PluginError",
    "SizeMismatch",
    "UnknownPlugin",
    "WeightsError",
    "one_line",
]


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


def one_line(error: object) -> str:
    """The text of an error on one line, without repeated white space."""
    return " ".join(str(error).split())
