"""Hooks: a plug-in module implements any of them with `@fusionkit.hookimpl` and is named by an entry point.

    # pyproject.toml of a third party
    [project.entry-points.fusionkit]
    mine = "fusionkit_prior_mine"

    # fusionkit_prior_mine/__init__.py
    import fusionkit

    @fusionkit.hookimpl
    def fusionkit_priors():
        yield fusionkit.PriorRecord(name="mine", summary="...", target="fusionkit_prior_mine.prior:Mine")

Importing that module must import nothing heavy: the class is imported when it is chosen.
"""

from collections.abc import Iterable

import pluggy

from . import records

PROJECT = "fusionkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fusionkit_backbones() -> Iterable[records.BackboneRecord]:  # type: ignore[empty-body]
    """Yield a `BackboneRecord` for every velocity field the package offers."""


@hookspec
def fusionkit_priors() -> Iterable[records.PriorRecord]:  # type: ignore[empty-body]
    """Yield a `PriorRecord` for every x0-correction prior the package offers."""


@hookspec
def fusionkit_color_spaces() -> Iterable[records.ColorSpaceRecord]:  # type: ignore[empty-body]
    """Yield a `ColorSpaceRecord` for every colour space the package offers."""


@hookspec
def fusionkit_decoders() -> Iterable[records.DecoderRecord]:  # type: ignore[empty-body]
    """Yield a `DecoderRecord` for every autoencoder the package offers."""


@hookspec
def fusionkit_degradations() -> Iterable[records.DegradationRecord]:  # type: ignore[empty-body]
    """Yield a `DegradationRecord` for every degradation of sources that the package can undo."""


@hookspec
def fusionkit_metrics() -> Iterable[records.MetricRecord]:  # type: ignore[empty-body]
    """Yield a `MetricRecord` for every metric the package offers."""


@hookspec
def fusionkit_detectors() -> Iterable[records.DetectorRecord]:  # type: ignore[empty-body]
    """Yield a `DetectorRecord` for every detector of objects the package offers."""


@hookspec
def fusionkit_stages() -> Iterable[records.StageRecord]:  # type: ignore[empty-body]
    """Yield a `StageRecord` for every stage before and after the fusion that the package offers."""


@hookspec
def fusionkit_readers() -> Iterable[records.ReaderRecord]:  # type: ignore[empty-body]
    """Yield a `ReaderRecord` for every reader of image files that the package offers."""


@hookspec
def fusionkit_writers() -> Iterable[records.WriterRecord]:  # type: ignore[empty-body]
    """Yield a `WriterRecord` for every writer of image files that the package offers."""
