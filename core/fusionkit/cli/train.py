"""`fusionkit train`: train a backbone or a decoder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError, UnknownPlugin
from .choices import key_values

__all__ = ["train"]


def train(
    target: Annotated[
        str, typer.Argument(help="What to train: `rf`, `decoder` (the default one), or any trainable plug-in's name.")
    ],
    data: Annotated[list[Path], typer.Option("--data", help="Folder of training images; repeatable.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for log, checkpoint and weights; its name names the weights.")
    ],
    opt: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Option of the training loop: steps, batch, crop, "
            "lr, warmup, ema, grey, held_out, validate_every, seed.",
        ),
    ] = [],  # noqa: B006
    trainer_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Option of the plug-in's trainer; dotted keys nest.")
    ] = [],  # noqa: B006
    decoder: Annotated[str, typer.Option(help="Decoder whose latents a backbone is trained on.")] = "vq",
    decoder_opt: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Option of that decoder.")] = [],  # noqa: B006
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
) -> None:
    """Train a plug-in's weights on folders of images. Started again with the same options, it continues.

    fusionkit train decoder --data photos --out weights/my-vq
    fusionkit train rf --data photos --out weights/my-rf --decoder-opt weights=weights/my-vq/my-vq.safetensors
    """
    loop_options = key_values(opt, "--opt")
    trainer_options = key_values(trainer_opt, "--trainer-opt")
    decoder_options = key_values(decoder_opt, "--decoder-opt")
    for folder in data:
        if not folder.is_dir():
            raise OptionError(f"--data {folder}: not a folder")

    import torch

    from ..registry import get_registry, validate_options
    from ..training.data import CropSampler
    from ..training.loop import train as run_training
    from ..training.options import TrainOptions

    registry = get_registry()
    kind, name = ("decoder", "vq") if target == "decoder" else _trainable(target)
    trainer_class = registry.trainer(kind, name)
    options = validate_options(TrainOptions, loop_options, "training")
    trainer_options = validate_options(trainer_class.Options, trainer_options, f"trainer of {kind} {name}")
    settings: dict[str, Any] = {
        "target": f"{kind} {name}", "loop": options.model_dump(mode="json"),
        "trainer": trainer_options.model_dump(mode="json"), "data": [folder.name for folder in data],
    }  # fmt: skip
    latent_space = None
    if trainer_class.needs_decoder:
        latent_space = registry.create("decoder", decoder, decoder_options)
        if str(decoder_options.get("weights", "")).endswith(".safetensors"):  # found again from any folder
            decoder_options["weights"] = str(Path(decoder_options["weights"]).resolve())
        settings |= {"decoder": decoder, "decoder_options": decoder_options}
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(options.seed)
    crops = CropSampler(data, options)
    settings["images"] = len(crops.paths)
    typer.echo(f"{len(crops.paths)} images to train on, {len(crops.held_out)} held out")
    path = run_training(trainer_class(trainer_options, latent_space), crops, out, options, settings,
                        report=lambda row: typer.echo("  ".join(f"{k} {v}" for k, v in row.items())))  # fmt: skip
    typer.echo(str(path))


def _trainable(name: str) -> tuple[str, str]:
    from ..registry import get_registry

    plugins = get_registry().plugins
    found = [p for p in plugins if p.record.name == name and p.record.trainer is not None]
    if not found:
        known = sorted({p.record.name for p in plugins if p.record.trainer is not None})
        raise UnknownPlugin(f"no trainable plug-in {name!r}; trainable: {', '.join(known)}")
    return found[0].record.kind, name
