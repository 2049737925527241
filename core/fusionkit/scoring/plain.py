"""Metrics that this project and several others compute as their papers define them, on the 8-bit luma of the result."""

import math

from .levels import (
    PairMetric,
    ResultMetric,
    SourceMetric,
    average_gradient,
    correlation,
    entropy,
    gradient_energy,
    mutual_information,
    squared_error,
)


class EN(ResultMetric):
    """EN (Roberts et al., 2008), bits."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range = (0.0, 8.0)
    measure = staticmethod(entropy)


class SD(ResultMetric):
    """SD (Rao, 1997), grey levels."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range = (0.0, 127.5)
    measure = staticmethod(lambda f: f.flatten(1).std(1, correction=0))


class SF(ResultMetric):
    """SF (Eskicioglu & Fisher, 1995), grey levels."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range = (0.0, 255 * math.sqrt(2))
    measure = staticmethod(lambda f: gradient_energy(f).sqrt())


class AG(ResultMetric):
    """AG (Cui et al., 2015), grey levels; nan for images one pixel wide or high."""

    definition = "mean of sqrt((gx² + gy²) / 2), central differences, 8-bit luma, in grey levels"
    range = (0.0, 255.0)
    measure = staticmethod(average_gradient)


class MI(SourceMetric):
    """MI (Qu et al., 2002), bits."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    summed = True
    measure = staticmethod(mutual_information)


class CC(SourceMetric):
    """CC (Deshmukh & Bhosale, 2010)."""

    definition = "mean over sources of Pearson's r with the result; nan where an image is constant"
    range = (-1.0, 1.0)
    measure = staticmethod(correlation)


class MSE(SourceMetric):
    """MSE, squared grey levels."""

    definition = "mean over sources of the mean squared difference, 8-bit luma, in squared grey levels"
    range = (0.0, 255.0**2)
    higher_is_better = False
    measure = staticmethod(squared_error)


class SCD(PairMetric):
    """SCD (Aslantas & Bendes, 2015), for two sources."""

    definition = "r(F - B, A) + r(F - A, B), Pearson over pixels; nan where F equals a source up to a constant"
    range = (-2.0, 2.0)
    measure = staticmethod(lambda f, a, b: correlation(f - b, a) + correlation(f - a, b))
