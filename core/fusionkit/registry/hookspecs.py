"""The hooks. A plug-in module implements any of them with `@fusionkit.hookimpl` and is named by an entry point.

    # pyproject.toml of a third party
    [project.entry-points.fusionkit]
    mine = "fusionkit_prior_mine"

    # fusionkit_prior_mine/__init__.py
    import fusionkit

    @fusionkit.hookimpl
    def fusionkit_priors():
        yield fusionkit.PriorRecord(name="mine", summary="...", target="fusionkit_prior_mine.prior:Mine")

Importing that module must cost nothing: the class is imported when it is chosen.
"""

from collections.abc import Iterable

import pluggy

from .records import (
    BackboneRecord,
    ColorSpaceRecord,
    DecoderRecord,
    DetectorRecord,
    MetricRecord,
    PriorRecord,
    ReaderRecord,
    StageRecord,
)

PROJECT = "fusionkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fusionkit_backbones() -> Iterable[BackboneRecord]:  # type: ignore[empty-body]
    """Yield a `BackboneRecord` for every velocity field the package offers."""


@hookspec
def fusionkit_priors() -> Iterable[PriorRecord]:  # type: ignore[empty-body]
    """Yield a `PriorRecord` for every x0-correction prior the package offers."""


@hookspec
def fusionkit_color_spaces() -> Iterable[ColorSpaceRecord]:  # type: ignore[empty-body]
    """Yield a `ColorSpaceRecord` for every colour space the package offers."""


@hookspec
def fusionkit_decoders() -> Iterable[DecoderRecord]:  # type: ignore[empty-body]
    """Yield a `DecoderRecord` for every autoencoder the package offers."""


@hookspec
def fusionkit_metrics() -> Iterable[MetricRecord]:  # type: ignore[empty-body]
    """Yield a `MetricRecord` for every metric the package offers."""


@hookspec
def fusionkit_detectors() -> Iterable[DetectorRecord]:  # type: ignore[empty-body]
    """Yield a `DetectorRecord` for every detector of objects the package offers."""


@hookspec
def fusionkit_stages() -> Iterable[StageRecord]:  # type: ignore[empty-body]
    """Yield a `StageRecord` for every stage before and after the fusion that the package offers."""


@hookspec
def fusionkit_readers() -> Iterable[ReaderRecord]:  # type: ignore[empty-body]
    """Yield a `ReaderRecord` for every reader of image files that the package offers."""
