"""`fusionkit demo`: fuse generated scenes, without any file of your own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OutputError
from ..registry.kinds import DISTRIBUTION, METHOD
from ..registry.loading import short_name
from .fields import part_options, with_options

__all__ = ["demo"]


@with_options(*part_options("Method", only=("prior", "backbone"), options=False))
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("fusionkit-demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier demo.")] = False,
    **given: Any,
) -> None:
    """Make a pair for each of four tasks, fuse them, and write one comparison picture per task.

    The scenes are made by code: infrared and visible by day and, with noise, at night; two exposures; two
    focus settings. Each comparison shows both sources, their average, the chosen prior and the prior `laplacian`.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; -o FOLDER writes elsewhere")
    if output.exists() and any(output.iterdir()) and not force:
        raise OutputError(f"{output}: exists already; --force overwrites it, -o FOLDER writes elsewhere")

    from ..images import Picture, write_image
    from ..images.sheet import contact_sheet
    from ..method.config import make_config
    from ..method.pipeline import Pipeline
    from ..scenes import SCENES

    prior = given["prior"] or f"{DISTRIBUTION}:{METHOD['prior'].default}"
    flow = {"backbone": given["backbone"]} if given["backbone"] else {}
    methods = {
        "average": {"prior": f"{DISTRIBUTION}:average", "backbone": f"{DISTRIBUTION}:identity"},
        short_name(prior): {"prior": prior, **flow},
    }
    methods.setdefault("laplacian", {"prior": f"{DISTRIBUTION}:laplacian", **flow})
    pipelines = {name: Pipeline(make_config(choices)) for name, choices in methods.items()}
    for task, (scene, roles) in SCENES.items():
        images = [image.astype("float32") for image in scene(seed=seed)]
        panels = list(zip(roles, images, strict=True))
        sources = [Picture(image, "8", (0.0, 255.0), name=role) for role, image in panels]
        for role, image in panels:
            write_image(output / task / f"{role.replace(' ', '-')}.png", image, "8")
        for name, pipeline in pipelines.items():
            fused = pipeline.fuse_pictures(sources).picture.pixels
            panels.append((f"{name} (this prior)" if name == short_name(prior) else name, fused))
            if name == short_name(prior):
                write_image(output / task / "fused.png", fused, "8")
        path = output / f"{task}.png"
        write_image(path, contact_sheet(panels, columns=3), "8", png_level=6)
        typer.echo(str(path))
