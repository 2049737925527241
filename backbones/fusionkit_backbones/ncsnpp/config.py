"""The architecture of an NCSN++, field by field as in the score-SDE configuration files."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

# settings of score-SDE configurations of which this network has one value
FIXED = {
    "name": "ncsnpp",
    "normalization": "GroupNorm",
    "nonlinearity": "swish",
    "attention_type": "ddpm",
    "conv_size": 3,
}

REACH = 96  # pixels; in a network without attention, others change less than a hundredth of a level


class NCSNppConfig(BaseModel):
    """Architecture of `NCSNpp` (Song et al., "Score-Based Generative Modeling through SDEs", appendix H).

    Names and defaults are those of the published CelebA-HQ rectified-flow configuration, so that a
    checkpoint's own configuration can be passed unchanged. Three settings beyond it make the network for pixels:
    `patch`, `normalization` and `attention`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(256, ge=1, description="nominal size; only its ratio to attn_resolutions matters")
    num_channels: int = Field(3, ge=1, le=10_000, description="channels of input and output")
    patch: int = Field(
        1, ge=1, le=16, description="side of the blocks of pixels that become channels (pixel unshuffle)"
    )
    centered: bool = Field(False, description="input is already in [-1, 1]; otherwise the network applies 2x - 1")
    nf: int = Field(128, ge=4, le=10_000, description="channels of the first level")
    ch_mult: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1, 1, 2, 2, 2, 2, 2), min_length=1, description="channel factor of each level"
    )
    num_res_blocks: int = Field(2, ge=1, le=1000, description="residual blocks a level")
    normalization: Literal["GroupNorm", "none"] = "GroupNorm"
    attention: bool = Field(True, description="attention between the blocks of the coarsest level")
    attn_resolutions: tuple[int, ...] = Field((16,), description="nominal sizes at which a level has attention")
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    resamp_with_conv: bool = Field(True, description="a convolution in the resampling of ddpm blocks")
    conditional: bool = Field(True, description="condition on time")
    fir: bool = Field(True, description="anti-aliased resampling")
    fir_kernel: tuple[float, ...] = Field((1.0, 3.0, 3.0, 1.0), min_length=2)
    skip_rescale: bool = Field(True, description="divide residual sums by sqrt(2)")
    resblock_type: Literal["biggan", "ddpm"] = "biggan"
    progressive: Literal["none", "output_skip", "residual"] = "output_skip"
    progressive_input: Literal["none", "input_skip", "residual"] = "input_skip"
    progressive_combine: Literal["sum", "cat"] = "sum"
    embedding_type: Literal["fourier", "positional"] = "fourier"
    fourier_scale: float = Field(16.0, gt=0.0)
    init_scale: float = Field(0.0, ge=0.0)
    scale_by_sigma: bool = Field(True, description="divide the output by the noise level")
    sigma_min: float = Field(0.01, gt=0.0)
    sigma_max: float = Field(380.0, gt=0.0)
    num_scales: int = Field(2000, ge=1, le=1_000_000)

    @classmethod
    def from_published(cls, config: Mapping[str, Any]) -> Self:
        """Read the sections `data` and `model` of a score-SDE or rectified-flow configuration file.

        Settings of training and sampling are ignored. Raises ValueError for settings that this network does not have.
        """
        flat = {**config.get("data", {}), **config.get("model", {})}
        missing = {"nf", "ch_mult", "image_size"} - flat.keys()
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))} in its sections model and data")
        for name, value in FIXED.items():
            if flat.get(name, value) != value:
                raise ValueError(f"{name}={flat[name]!r} is not supported, only {value!r}")
        return cls.model_validate({k: v for k, v in flat.items() if k in cls.model_fields})

    @property
    def multiple(self) -> int:
        """Number that height and width must be multiples of."""
        return int(self.patch * 2 ** (len(self.ch_mult) - 1))

    @property
    def overlap(self) -> int:
        """Pixels around a tile that influence it; 0 where attention sees all of them."""
        return 0 if self.attention or self.attn_resolutions else REACH

    def has_attention(self, level: int) -> bool:
        """Tell whether a level of the network has attention, for images of any size."""
        return self.image_size // 2**level in self.attn_resolutions
