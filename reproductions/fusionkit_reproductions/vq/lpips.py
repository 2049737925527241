"""LPIPS, the perceptual distance (Zhang et al., CVPR 2018), on VGG-16, with the published parameter names.

Its weights (59 MB) are not shipped: the user gives a file. Nothing is downloaded.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from fusionkit.errors import WeightsError
from fusionkit.weights import differences
from fusionkit.weights.checkpoint import read_checkpoint, state_dict

# VGG-16 up to relu5_3: channels of each convolution, "M" a max pool; numbered as torchvision's `features`
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
SLICE_ENDS = (4, 9, 16, 23, 30)
WIDTHS = (64, 128, 256, 512, 512)


class ScalingLayer(nn.Module):
    """[-1, 1] -> the normalisation of ImageNet, in the constants that LPIPS was published with."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(x - shift) / scale."""
        return (x - self.shift) / self.scale


class VGGSlices(nn.Module):
    """VGG-16 in five slices that end at relu1_2, 2_2, 3_3, 4_3 and 5_3."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in LAYERS:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        for number, (start, end) in enumerate(zip((0, *SLICE_ENDS), SLICE_ENDS, strict=False), 1):
            part = nn.Sequential()
            for index in range(start, end):
                part.add_module(str(index), layers[index])
            self.add_module(f"slice{number}", part)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of every slice."""
        outputs = []
        for part in self.children():
            x = part(x)
            outputs.append(x)
        return outputs


class LinearHead(nn.Module):
    """The learned weight of every channel. The published dropout before it is never active here."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return self.model(x)


class LPIPS(nn.Module):
    """Distance of two images (B, 3, H, W) in [-1, 1], at least 16 pixels wide and high: (B, 1, 1, 1). Frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.scaling_layer = ScalingLayer()
        self.net = VGGSlices()
        for number, width in enumerate(WIDTHS):
            self.add_module(f"lin{number}", LinearHead(width))
        self.requires_grad_(False)

    @classmethod
    def from_file(cls, *paths: Path) -> "LPIPS":
        """From published weights, in one file or several: `net.*`, `lin*`, or torchvision's `features.*`."""
        module = cls()
        own = module.state_dict()
        by_index = {name.rpartition("slice")[2].partition(".")[2]: name for name in own if name.startswith("net.")}
        tensors = {k: v for k, v in own.items() if k.startswith("scaling_layer.")}
        for path in paths:
            for name, value in state_dict(read_checkpoint(path)).items():
                if not name.startswith("classifier."):
                    tensors[by_index.get(name.removeprefix("features."), name)] = value
        problems = differences(tensors, own)
        if problems:
            raise WeightsError(f"{', '.join(map(str, paths))}: not weights of LPIPS on VGG-16: {'; '.join(problems)}")
        module.load_state_dict(tensors)
        return module

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared differences of unit-length features, weighted over channels, averaged over positions."""
        features = [self.net(self.scaling_layer(x)) for x in (a, b)]
        total = torch.zeros((), device=a.device)
        for number, (fa, fb) in enumerate(zip(*features, strict=True)):
            difference = (_unit_length(fa) - _unit_length(fb)).square()
            total = total + self.get_submodule(f"lin{number}")(difference).mean((2, 3), keepdim=True)
        return total


def _unit_length(x: Tensor, eps: float = 1e-10) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + eps)
