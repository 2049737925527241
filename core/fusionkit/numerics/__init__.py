"""What several plug-ins compute with: luma, SSIM, pyramids, windows, Poisson's equation, contrast."""
