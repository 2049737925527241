"""Which network learns the flow best in equal CPU time: the U-Net that is shipped, or NCSN++.

    python benchmarks/flow_networks.py --data CID22 --data CLIC --data GB82 --network ncsnpp --minutes 60 --out ncsnpp
    python benchmarks/flow_networks.py --score ncsnpp --images KODAK

One thread; each network sees pixels in 2x2 blocks and predicts the noise of luma. Data, noise, loss, optimiser (Muon),
and the line down to a rate of zero at the end of the minutes are the same, convolutions in bfloat16; widths are such
that an evaluation takes about the same CPU seconds (printed). unet: U-Net of 48, 96, 160 channels, blocks 4 and 3.
ncsnpp: BigGAN blocks, FIR resampling, Fourier features, progressive input and output, group normalisation. plain: the
same without normalisation. A run that was stopped goes on. --score: PSNR in dB as `benchmarks/denoise.py` computes it.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.training.data import list_images
from fusionkit.training.loop import averaged
from fusionkit.training.muon import Muon
from fusionkit.training.options import TrainOptions
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.rf_training import PixelTrainer, RFTrainerOptions
from fusionkit_backbones.unet import UNet, UNetConfig

RATE, WARMUP = 6e-3, 100
NETWORKS = ("unet", "ncsnpp", "plain")


class Blocks(nn.Module):
    """NCSN++ on 2x2 blocks of pixels: the noise of y (B, 1, H, W) with noise of deviation s (B,)."""

    def __init__(self, nf: int, *, normalised: bool) -> None:
        super().__init__()
        self.network = NCSNpp(
            NCSNppConfig(
                num_channels=4,
                image_size=32,
                centered=True,
                nf=nf,
                ch_mult=(1, 2, 3, 3),
                num_res_blocks=2,
                attn_resolutions=(),
                scale_by_sigma=False,
            )
        )
        if not normalised:
            for module in list(self.network.modules()):
                for name, child in module.named_children():
                    if isinstance(child, nn.GroupNorm):
                        setattr(module, name, nn.Identity())

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """The noise, in the shape of y."""
        x = F.pixel_unshuffle(y, 2).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.network(x, s), 2)


def make(name: str, nf: int) -> nn.Module:
    """The network of a name."""
    if name == "unet":
        return UNet(UNetConfig(blocks=(4, 3)))
    return Blocks(nf, normalised=name == "ncsnpp")


def seconds(network: nn.Module) -> float:
    """CPU seconds of an evaluation at 512x512, the least of three."""
    y, found = torch.rand(1, 1, 512, 512), []
    with torch.inference_mode():
        for _ in range(4):
            start = time.process_time()
            network(y, torch.tensor([0.2]))
            found.append(time.process_time() - start)
    return min(found[1:])


def train(options: argparse.Namespace) -> None:
    """Train until the CPU minutes are spent."""
    torch.manual_seed(0)
    module, own = make(options.network, options.nf), TrainOptions(batch=12, crop=64, held_out=8)
    print(f"{options.network}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters, ", end="")
    print(f"{seconds(module):.3f} CPU seconds an evaluation at 512x512", flush=True)
    trainer = PixelTrainer(RFTrainerOptions())
    trainer.module = module  # type: ignore[assignment]
    data = PixelTrainer(RFTrainerOptions())
    data.open(options.data, own)
    trainer.data, generator = data.data, torch.Generator().manual_seed(0)
    average, optimizer = averaged(module, 0.999), Muon(module.parameters(), lr=RATE)
    path, step, spent = options.out / "checkpoint.pt", 0, 0.0
    options.out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, spent = state["step"], state["spent"]
    limit, last, began = 60 * options.minutes, spent, time.process_time() - spent
    while (spent := time.process_time() - began) < min(limit, 60 * options.until):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (1 - spent / limit)
        batch = trainer.batch(own, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = trainer.loss(batch, step, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(module)
        step += 1
        if spent - last > 120:
            last = spent
            save(path, module, average, optimizer, generator, step, spent, options)
            print(f"{spent / 60:.1f} minutes, step {step}, loss {loss.item():.4f}", flush=True)
    save(path, module, average, optimizer, generator, step, spent, options)
    print(f"done: {step} steps", flush=True)


def save(path, module, average, optimizer, generator, step, spent, options) -> None:  # type: ignore[no-untyped-def]
    """A checkpoint to go on from, and to score."""
    state = {
        "module": module.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "step": step,
        "spent": spent,
        "network": options.network,
        "nf": options.nf,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def score(options: argparse.Namespace) -> None:
    """PSNR of the averaged weights on photographs, luma, white noise, the noise's own level known."""
    state = torch.load(options.score / "checkpoint.pt", weights_only=True)
    average = averaged(make(state["network"], state["nf"]), 0.999)
    average.load_state_dict(state["average"])
    images = [luma(to_tensor(read_image(path).pixels)) for path in list_images([options.images])]
    found = {}
    for level in (15, 25, 50):
        generator, s, values = torch.Generator().manual_seed(1), 2 * level / 255, []
        for image in images:
            x0 = 2 * image - 1
            y = x0 + s * torch.randn(x0.shape, generator=generator)
            height, width = y.shape[-2:]
            padded = F.pad(y, (0, -width % 16, 0, -height % 16), mode="reflect")
            with torch.inference_mode():
                clean = y - s * average.module(padded, torch.tensor([s]))[..., :height, :width]
            values.append(-10 * float(((clean - x0) / 2).square().mean().log10()))
        found[level] = round(sum(values) / len(values), 2)
    print(f"{state['network']}, {state['spent'] / 60:.0f} CPU minutes, {state['step']} steps: {found}")


def main() -> None:
    """Train or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--network", choices=NETWORKS, default="unet")
    parser.add_argument("--nf", type=int, default=32, help="channels of NCSN++'s first level")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--until", type=float, default=1e9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--score", type=Path)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    score(options) if options.score else train(options)


if __name__ == "__main__":
    main()
