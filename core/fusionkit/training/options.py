"""Options of every training run."""

from typing import Literal

from pydantic import Field

from ..options import Options


class TrainOptions(Options):
    """Options of the training loop; the plug-in's trainer adds its own."""

    steps: int = Field(5000, ge=1, le=10_000_000, description="optimiser steps")
    batch: int = Field(16, ge=1, le=65_536, description="crops a step")
    crop: int = Field(64, ge=8, le=8192, description="side of the square crops, in pixels")
    optimizer: Literal["adam", "muon"] = Field("adam", description="muon: for networks of matrices and convolutions")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    warmup: int = Field(200, ge=1, le=10_000_000, description="steps of linear warm-up")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="how the rate falls to zero afterwards")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the exponential moving average of the weights")
    grey: float = Field(0.15, ge=0, le=1, description="share of crops turned to grey")
    held_out: int = Field(
        12, ge=1, le=1_000_000, description="images kept out of training and validated on, chosen by file name"
    )
    validate_every: int = Field(
        500, ge=1, le=10_000_000, description="steps between validations, each with a checkpoint"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of crops, flips and noise")
