"""Numerics that plug-ins share: luma, SSIM, pyramids, windows, Poisson's equation, contrast, noise, registration."""
