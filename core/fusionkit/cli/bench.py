"""`fusionkit bench`: how fast a method is here."""

import json
import platform
from importlib.metadata import version
from typing import Annotated, Any

import typer

from ..method.config import PipelineConfig, SamplerOptions
from ..registry.kinds import DISTRIBUTION
from .fields import chosen, model_options, part_options, parts_chosen, with_options

__all__ = ["bench"]


@with_options(
    *part_options("Method"),
    *model_options(SamplerOptions, "Sampling"),
    *model_options(PipelineConfig, "Method", only=("look", "align")),
)
def bench(
    task: Annotated[str | None, typer.Option(help="ivif, mef, mff or medical, as in `run`.")] = None,
    preset: Annotated[str | None, typer.Option(help="A TOML file or a shipped preset, as in `run`.")] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="HEIGHT WIDTH", min=16, help="Of the images.")] = (768, 1024),
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Pairs that go through at once.")] = 1,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Runs whose median is taken.")] = 5,
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="Of the CPU.", show_default="PyTorch's")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    machine: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")] = False,
    **given: Any,
) -> None:
    """Measure a method on this machine: images a second, seconds a stage, memory, share of the peak.

    fusionkit bench
    fusionkit bench --prior laplacian --size 480 640 --device cuda --batch 8

    What is timed, and how, is printed with the numbers. Compare numbers of one machine, of one size.
    """
    from ..method.config import choose

    choices = {**parts_chosen(given), **chosen(given, PipelineConfig)}
    sampler = chosen(given, SamplerOptions)
    config = choose(task, preset, choices | ({"sampler": sampler} if sampler else {}))

    import torch

    from ..bench import PROTOCOL, measure
    from ..method.pipeline import Pipeline

    if threads:
        torch.set_num_threads(threads)
    pipeline = Pipeline(config, device=device)
    name = torch.cuda.get_device_name(pipeline.device) if pipeline.device.type == "cuda" else _processor()
    about = {
        "fusionkit": version(DISTRIBUTION),
        "torch": torch.__version__,
        "device": f"{pipeline.device.type}: {name}",
        "threads": torch.get_num_threads(),
        "size": list(size),
        "batch": batch,
        "runs": runs,
        "precision": pipeline.sampler.options.precision,
        "protocol": PROTOCOL,
    }
    found = []
    if not machine:
        typer.echo(", ".join(f"{key} {value}" for key, value in about.items() if key != "protocol"))
    for measured in measure(pipeline, size, batch, runs):
        found.append({**vars(measured)})
        if machine:
            continue
        stages = ", ".join(f"{stage} {1e3 * seconds:.0f}" for stage, seconds in measured.stages.items() if seconds)
        share = "" if measured.share is None else f"; networks at {measured.share:.0%} of the peak of convolutions"
        memory = "" if measured.memory is None else f"; {measured.memory:.0f} MB"
        typer.echo(
            f"{measured.sources}: {measured.images:.2f} images/s, {measured.seconds:.3f} s a batch{share}{memory}"
        )
        typer.echo(f"  ms a stage: {stages}")
    if machine:
        typer.echo(json.dumps({**about, "measured": found}))
    else:
        typer.echo(PROTOCOL)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.partition(":")[2].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
