"""`fusionkit bench`: how fast a method is here."""

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..extras import DISTRIBUTION
from .fields import part_options, with_options
from .given import Given
from .parameters import Device, Machine, Preset, Set, Task

if TYPE_CHECKING:
    from ..method.pipeline import Pipeline

Size = Annotated[tuple[int, int], typer.Option(metavar="HEIGHT WIDTH", min=16, help="Size of the images.")]
Batch = Annotated[int, typer.Option(metavar="N", min=1, help="Pairs that are fused at once.")]
Runs = Annotated[int, typer.Option(metavar="N", min=1, help="Number of runs; their median is reported.")]
Threads = Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads.", show_default="PyTorch's")]


@with_options(*part_options("Method", only=("prior", "backbone"), options=False))
def bench(
    task: Task = None,
    preset: Preset = None,
    values: Set = [],  # noqa: B006
    size: Size = (768, 1024),
    batch: Batch = 1,
    runs: Runs = 5,
    threads: Threads = 0,
    device: Device = "auto",
    machine: Machine = False,
    **given: Any,
) -> None:
    """Measure a method on this machine: images per second, seconds per stage, memory, share of the peak.

    fusionkit bench
    fusionkit bench --prior laplacian --size 480 640 --device cuda --batch 8
    fusionkit bench --set strength=0.1 --set steps=4 --set align=none

    The protocol of the measurement is printed with the numbers. Compare only numbers of one machine and one size.
    """
    config = Given(given).method(task, preset, values)

    import torch

    from ..bench import PROTOCOL, measure
    from ..method.pipeline import Pipeline

    if threads:
        torch.set_num_threads(threads)
    pipeline = Pipeline(config, device=device)
    about = {**_about(pipeline), "size": list(size), "batch": batch, "runs": runs, "protocol": PROTOCOL}
    if not machine:
        typer.echo(", ".join(f"{key} {value}" for key, value in about.items() if key != "protocol"))
    rows = []
    for measured in measure(pipeline, size, batch, runs):
        rows.append({**vars(measured)})
        if machine:
            continue
        stages = ", ".join(f"{stage} {1e3 * seconds:.0f}" for stage, seconds in measured.stages.items() if seconds)
        share = "" if measured.share is None else f"; networks at {measured.share:.0%} of the peak of convolutions"
        memory = "" if measured.memory is None else f"; {measured.memory:.0f} MB"
        typer.echo(
            f"{measured.sources}: {measured.images:.2f} images/s, {measured.seconds:.3f} s per batch{share}{memory}"
        )
        typer.echo(f"  ms per stage: {stages}")
    typer.echo(json.dumps({**about, "measured": rows}) if machine else PROTOCOL)


def _about(pipeline: "Pipeline") -> dict[str, Any]:
    """Versions, device and precision of the measured method."""
    import torch

    from ..numerics.fastest import processor, timed

    name = torch.cuda.get_device_name(pipeline.device) if pipeline.device.type == "cuda" else processor()
    convolutions = timed() if pipeline.device.type == "cpu" else None
    return {
        "fusionkit": version(DISTRIBUTION),
        "torch": torch.__version__,
        "device": f"{pipeline.device.type}: {name}",
        "threads": torch.get_num_threads(),
        "precision": pipeline.sampler.options.precision,
        **({"float32 convolutions": str(convolutions)} if convolutions else {}),
    }
