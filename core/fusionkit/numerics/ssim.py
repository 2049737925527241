"""Formula of SSIM; callers choose windows and ranges."""

from collections.abc import Callable

from torch import Tensor


def ssim_map(
    a: Tensor, b: Tensor, mean: Callable[[Tensor], Tensor], data_range: float, unbiased: float = 1.0
) -> Tensor:
    """SSIM at each position (Wang et al., 2004, eq. 13) of images (B, C, H, W), in the shape of `mean(a)`.

    mean: the local mean, a window's weighted sum. unbiased: factor of the variances, n / (n - 1) for sample ones.
    """
    brightness, structure = ssim_parts(a, b, mean, data_range, unbiased)
    return brightness * structure


def ssim_parts(
    a: Tensor, b: Tensor, mean: Callable[[Tensor], Tensor], data_range: float, unbiased: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Factors of `ssim_map`: agreement of means, and of contrast and structure."""
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = unbiased * (mean(a * a) - mean_a.square()), unbiased * (mean(b * b) - mean_b.square())
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    brightness = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return brightness, (2 * covariance + c2) / (var_a + var_b + c2)
