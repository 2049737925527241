"""The VQ autoencoder of latent diffusion: configuration and network."""

from .config import DDConfig, VQConfig
from .network import VQModel

__all__ = ["DDConfig", "VQConfig", "VQModel"]
