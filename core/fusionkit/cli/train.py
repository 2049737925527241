"""`fusionkit train`: train a backbone or a decoder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError, UnknownPlugin
from .choices import key_values

__all__ = ["train"]


def train(
    target: Annotated[
        str,
        typer.Argument(help="What to train: a trainable plug-in's name, such as rf, KIND:NAME, or a KIND."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for log, checkpoint and weights; its name names the weights.")
    ],
    data: Annotated[list[Path], typer.Option("--data", help="Folder of training images; repeatable.")] = [],  # noqa: B006
    pairs: Annotated[
        list[Path],
        typer.Option(
            "--pairs", help="Folder of registered images, of the same names as the others'; repeat, the reference last."
        ),
    ] = [],  # noqa: B006
    stage: Annotated[
        int | None, typer.Option(min=1, help="Stage of a plug-in that is trained in several, such as vq.")
    ] = None,
    opt: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Option of the training loop: steps, batch, crop, "
            "optimizer, lr, warmup, schedule, ema, grey, held_out, validate_every, seed.",
        ),
    ] = [],  # noqa: B006
    trainer_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Option of the plug-in's trainer; dotted keys nest.")
    ] = [],  # noqa: B006
    decoder: Annotated[
        str | None,
        typer.Option(help="Decoder whose latents a backbone is trained on.", show_default="the trainable one"),
    ] = None,
    decoder_opt: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Option of that decoder.")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
) -> None:
    """Train a plug-in's weights on folders of images. Started again with the same options, it continues.

    fusionkit train decoder --data photos --out weights/my-vq
    fusionkit train decoder --stage 2 --pairs ir --pairs vis --out weights/my-vq-2
    fusionkit train rf --data photos --out weights/my-rf --decoder-opt weights=weights/my-vq/my-vq.safetensors
    """
    loop_options = key_values(opt, "--opt")
    trainer_options = key_values(trainer_opt, "--trainer-opt")
    decoder_options = key_values(decoder_opt, "--decoder-opt")
    if stage is not None:
        trainer_options["stage"] = stage
    if bool(data) == bool(pairs):
        raise OptionError("give folders of images with --data, or of registered ones with --pairs (two or more)")
    for folder in data or pairs:
        if not folder.is_dir():
            raise OptionError(f"{'--data' if data else '--pairs'} {folder}: not a folder")
    if len(pairs) == 1:
        raise OptionError(f"--pairs {pairs[0]}: give at least two folders, each with its own --pairs")

    import torch

    from ..method.pipeline import find_device
    from ..options import validate_options
    from ..registry.loading import get_registry
    from ..training.loop import train as run_training
    from ..training.options import TrainOptions

    registry = get_registry()
    kind, name = _trainable(target)
    trainer_class = registry.trainer(kind, name)
    options = validate_options(TrainOptions, loop_options, "training")
    trainer_options = validate_options(trainer_class.Options, trainer_options, f"trainer of {kind} {name}")
    wanted = "pairs" if pairs else "images"
    known = trainer_class.learns_from(trainer_options)
    if wanted not in known:
        raise OptionError(
            f"{kind} {name} with these options learns from {' or '.join(known)}: use "
            f"{'--pairs' if 'pairs' in known else '--data'}"
        )
    settings: dict[str, Any] = {
        "target": f"{kind} {name}",
        "loop": options.model_dump(mode="json"),
        "trainer": trainer_options.model_dump(mode="json"),
        ("data" if data else "pairs"): [folder.name for folder in data or pairs],
    }
    latent_space = None
    if trainer_class.wants_decoder(trainer_options):
        decoder = decoder or _trainable("decoder")[1]
        latent_space = registry.create("decoder", decoder, decoder_options)
        if str(decoder_options.get("weights", "")).endswith(".safetensors"):  # found again from any folder
            decoder_options["weights"] = str(Path(decoder_options["weights"]).resolve())
        settings |= {"decoder": decoder, "decoder_options": decoder_options}
    elif decoder or decoder_options:
        raise OptionError("--decoder: this trainer learns from pixels and takes none")
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(options.seed)
    trainer = trainer_class(trainer_options, latent_space)
    trainer.to(find_device(device))
    trainer.open(data or pairs, options, paired=bool(pairs))
    settings["images"] = len(trainer.data.paths)
    typer.echo(f"{len(trainer.data.paths)} {wanted} to train on, {len(trainer.data.held_out_paths)} held out")
    path = run_training(
        trainer, out, options, settings, report=lambda row: typer.echo("  ".join(f"{k} {v}" for k, v in row.items()))
    )
    typer.echo(str(path))


def _trainable(target: str) -> tuple[str, str]:
    """Kind and name of a plug-in that can be trained: NAME, KIND:NAME, or a KIND of which there is one."""
    from ..registry.loading import get_registry

    trainable = [p for p in get_registry().plugins if p.record.trainer is not None]
    found = [p for p in trainable if target in (p.record.name, p.kind, f"{p.kind}:{p.record.name}")]
    if len(found) != 1:
        known = ", ".join(sorted(f"{p.kind}:{p.record.name}" for p in trainable))
        raise UnknownPlugin(f"no single trainable plug-in {target!r}; trainable: {known}")
    return found[0].kind, found[0].record.name
