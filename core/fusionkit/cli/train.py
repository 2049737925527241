"""`fusionkit train`: train a backbone or a decoder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError, UnknownPlugin
from ..method.words import key_values
from ..options import validate_options
from ..training.options import TrainOptions

if TYPE_CHECKING:
    from ..training.loop import Trainer

Target = Annotated[
    str, typer.Argument(help="What to train: a trainable plug-in's name, such as rf, KIND:NAME, or a KIND.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for log, checkpoint and weights; its name names the weights.")]
Data = Annotated[list[Path], typer.Option("--data", help="Folder of training images; repeatable.")]
Pairs = Annotated[
    list[Path],
    typer.Option(
        "--pairs",
        help="Folder of registered images; once per source, the reference last; files of one name belong together.",
    ),
]
Stage = Annotated[int | None, typer.Option(min=1, help="Stage of a plug-in that is trained in several, such as vq.")]
Opt = Annotated[
    list[str],
    typer.Option(metavar="KEY=VALUE", help=f"Option of the training loop: {', '.join(TrainOptions.model_fields)}."),
]
TrainerOpt = Annotated[
    list[str], typer.Option(metavar="KEY=VALUE", help="Option of the plug-in's trainer; dotted keys nest.")
]
Decoder = Annotated[
    str | None, typer.Option(help="Decoder whose latents a backbone is trained on.", show_default="the trainable one")
]
DecoderOpt = Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Option of that decoder.")]


def train(
    target: Target,
    out: Out,
    data: Data = [],  # noqa: B006
    pairs: Pairs = [],  # noqa: B006
    stage: Stage = None,
    opt: Opt = [],  # noqa: B006
    trainer_opt: TrainerOpt = [],  # noqa: B006
    decoder: Decoder = None,
    decoder_opt: DecoderOpt = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
) -> None:
    """Train a plug-in's weights on folders of images. Started again with the same options, it continues.

    fusionkit train decoder --data photos --out weights/my-vq
    fusionkit train decoder --stage 2 --pairs ir --pairs vis --out weights/my-vq-2
    fusionkit train rf --data photos --out weights/my-rf --decoder-opt weights=weights/my-vq/my-vq.safetensors
    """
    loop_options, trainer_options = key_values(opt, "--opt"), key_values(trainer_opt, "--trainer-opt")
    if stage is not None:
        trainer_options["stage"] = stage
    _check_folders(data, pairs)

    import torch

    from ..method.device import find_device
    from ..training.loop import train as run_training

    options = validate_options(TrainOptions, loop_options, "training")
    kind, name = _trainable(target)
    wanted = "pairs" if pairs else "images"
    make, chosen = _trainer(kind, name, trainer_options, wanted, decoder, key_values(decoder_opt, "--decoder-opt"))
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(options.seed)
    trainer = make()
    trainer.to(find_device(device))
    trainer.open(data or pairs, options, paired=bool(pairs))
    settings: dict[str, Any] = {
        "target": f"{kind} {name}",
        "loop": options.model_dump(mode="json"),
        ("data" if data else "pairs"): [folder.name for folder in data or pairs],
        **chosen,
        "images": len(trainer.data.paths),
    }
    typer.echo(f"{len(trainer.data.paths)} {wanted} to train on, {len(trainer.data.held_out_paths)} held out")
    path = run_training(
        trainer, out, options, settings, report=lambda row: typer.echo("  ".join(f"{k} {v}" for k, v in row.items()))
    )
    typer.echo(str(path))


def _check_folders(data: list[Path], pairs: list[Path]) -> None:
    """Refuse folders that are not there, both kinds or none, and one folder of pairs."""
    if bool(data) == bool(pairs):
        raise OptionError("give folders of images with --data, or of registered ones with --pairs (two or more)")
    for folder in data or pairs:
        if not folder.is_dir():
            raise OptionError(f"{'--data' if data else '--pairs'} {folder}: not a folder")
    if len(pairs) == 1:
        raise OptionError(f"--pairs {pairs[0]}: give at least two folders, each with its own --pairs")


def _trainer(
    kind: str, name: str, options: dict[str, Any], wanted: str, decoder: str | None, decoder_options: dict[str, Any]
) -> "tuple[Callable[[], Trainer], dict[str, Any]]":
    """A function that makes the trainer of a plug-in for such data, and its choices for the record."""
    from ..registry.loading import get_registry

    registry = get_registry()
    trainer_class = registry.trainer(kind, name)
    validated = validate_options(trainer_class.Options, options, f"trainer of {kind} {name}")
    known = trainer_class.learns_from(validated)
    if wanted not in known:
        raise OptionError(
            f"{kind} {name} with these options learns from {' or '.join(known)}: use "
            f"{'--pairs' if 'pairs' in known else '--data'}"
        )
    record = {"trainer": validated.model_dump(mode="json")}
    if not trainer_class.wants_decoder(validated):
        if decoder or decoder_options:
            raise OptionError("--decoder: this trainer learns from pixels and takes none")
        return (lambda: trainer_class(validated, None)), record
    decoder = decoder or _trainable("decoder")[1]
    latent_space = registry.create("decoder", decoder, decoder_options)
    if str(decoder_options.get("weights", "")).endswith(".safetensors"):  # found again from any folder
        decoder_options["weights"] = str(Path(decoder_options["weights"]).resolve())
    chosen = {"decoder": decoder, "decoder_options": decoder_options}
    return (lambda: trainer_class(validated, latent_space)), {**record, **chosen}


def _trainable(target: str) -> tuple[str, str]:
    """Kind and name of a plug-in that can be trained: NAME, KIND:NAME, or a KIND of which there is one."""
    from ..registry.loading import get_registry

    trainable = [p for p in get_registry().plugins if p.record.trainer is not None]
    found = [p for p in trainable if target in (p.record.name, p.kind, f"{p.kind}:{p.record.name}")]
    if len(found) != 1:
        known = ", ".join(sorted(f"{p.kind}:{p.record.name}" for p in trainable))
        raise UnknownPlugin(f"no single trainable plug-in {target!r}; trainable: {known}")
    return found[0].kind, found[0].record.name
