"""The architecture of a VQ autoencoder, field by field as in the latent-diffusion configuration files."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class DDConfig(BaseModel):
    """Encoder and decoder (`ddconfig` of Rombach et al.'s files; names and defaults of VQ-f4)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    z_channels: int = Field(3, ge=1, le=10_000)
    resolution: int = Field(256, ge=1, description="nominal size; only its ratio to attn_resolutions matters")
    in_channels: int = Field(3, ge=1, le=10_000)
    out_ch: int = Field(3, ge=1, le=10_000)
    ch: int = Field(128, ge=1, le=10_000, description="channels of the first level")
    ch_mult: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1, 2, 4), min_length=1, description="channel factor of each level"
    )
    num_res_blocks: int = Field(2, ge=1, le=1000)
    attn_resolutions: tuple[int, ...] = ()
    attn_type: Literal["vanilla", "none"] = Field("vanilla", description="attention at the bottom and in the levels")
    norm_groups: int = Field(
        32, ge=0, description="groups of every group normalisation (32 in published weights); 0: no normalisation"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    double_z: Literal[False] = False


class VQConfig(BaseModel):
    """A `VQModel`: the two networks and the codebook between them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed_dim: int = Field(3, ge=1, le=10_000, description="channels of the latent")
    n_embed: int = Field(8192, ge=1, le=10_000_000, description="entries of the codebook")
    ddconfig: DDConfig = DDConfig()

    @classmethod
    def from_published(cls, config: Mapping[str, Any]) -> Self:
        """From a latent-diffusion or RFfusion configuration file: `params` of its section `model` or `autoencoder`.

        Settings of losses and training are passed over; so is `padding_mode`, which no published code reads.
        """
        params = next((config[k] for k in ("autoencoder", "model") if "params" in config.get(k, {})), config)["params"]
        networks = {k: v for k, v in params["ddconfig"].items() if k != "padding_mode"}
        return cls(embed_dim=params["embed_dim"], n_embed=params["n_embed"], ddconfig=DDConfig(**networks))

    @property
    def factor(self) -> int:
        """Image size over latent size."""
        return int(2 ** (len(self.ddconfig.ch_mult) - 1))
