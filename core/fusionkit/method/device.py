"""The device that a method runs on."""

import torch

from ..errors import OptionError


def find_device(name: str) -> torch.device:
    """The device of this name, tried; auto takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from None
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # each kind of device that is not there raises something of its own
        reason = str(error).splitlines()[0]
        if name.startswith("cuda") and not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
            raise OptionError(
                f"device {name!r}: this PyTorch ({torch.__version__}) is built for CPUs; pytorch.org/get-started says "
                "how to install one with CUDA"
            ) from None
        raise OptionError(f"device {name!r} cannot be used here: {reason}") from None
    return device
