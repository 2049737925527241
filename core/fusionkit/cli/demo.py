"""`fusionkit demo`: fuse generated scenes, without any file of your own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError
from ..extras import DISTRIBUTION
from ..registry.kinds import METHOD
from ..registry.loading import short_name
from ..scenes import SCENES, Scene
from .fields import part_options, with_options

if TYPE_CHECKING:
    from ..images.picture import Array, Picture


@with_options(*part_options("Method", only=("prior", "backbone"), options=False))
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("fusionkit-demo"),
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**63 - 1, help="Seed of the scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier demo.")] = False,
    **given: Any,
) -> None:
    """Make pairs of images by code, fuse them, and write one comparison picture per pair."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; -o FOLDER writes elsewhere")
    if output.exists() and any(output.iterdir()) and not force:
        raise OutputError(f"{output}: exists already; --force overwrites it, -o FOLDER writes elsewhere")

    from ..images.sheet import contact_sheet
    from ..method.degrade import made_pictures
    from ..writing import write_image

    prior = given["prior"] or f"{DISTRIBUTION}:{METHOD['prior'].default}"
    flow = {"backbone": given["backbone"]} if given["backbone"] else {}
    for task, scene in SCENES.items():
        sources = made_pictures(task, seed=seed)
        for source in sources:
            write_image(output / task / f"{source.name.replace(' ', '-')}.png", source.pixels, "8")
        panels, fused = _compared(scene, sources, prior, flow)
        write_image(output / task / "fused.png", fused, "8")
        path = output / f"{task}.png"
        write_image(path, contact_sheet(panels, columns=3 if len(panels) < 7 else 4), "8", png_level=6)
        typer.echo(str(path))


demo.__doc__ = f"""{demo.__doc__}

The scenes are {"; ".join(scene.shows for scene in SCENES.values())}.

Each comparison shows both sources, their average, the chosen prior and the prior `laplacian`. Of degraded sources it
also shows them restored, and the chosen prior without that.
"""


def _compared(
    scene: Scene, sources: Sequence["Picture"], prior: str, flow: Mapping[str, str]
) -> tuple[list[tuple[str, "Array"]], "Array"]:
    """Labelled panels of one size, sources first; and the result of the chosen prior."""
    from ..comparison import fuse_seen
    from ..method.config import make_config
    from ..method.pipeline import Pipeline

    method, name, resize = {"prior": prior, **flow}, short_name(prior), {"resize": "reference"}
    undone = bool(scene.degraded) and Pipeline(make_config(method)).restorer.able
    baseline = {"prior": f"{DISTRIBUTION}:average", "backbone": f"{DISTRIBUTION}:identity"}
    average, given = fuse_seen(sources, {**baseline, **resize, "restore": "none"})
    result, fused = fuse_seen(sources, {**method, **resize, "restore": ("auto", *(scene.restore if undone else ()))})
    panels = [(_label(source, shown), shown.pixels) for source, shown in zip(sources, given, strict=True)]
    panels += [(f"{shown.name}, restored", shown.pixels) for shown in fused if undone]
    if name != "average":
        panels.append(("average", average))
    if undone:
        panels.append((f"{name}, nothing restored", fuse_seen(given, {**method, "restore": "none"})[0]))
    panels.append((f"{name} (this prior)" + ", restored" * undone, result))
    if name != "laplacian":
        other = {"prior": f"{DISTRIBUTION}:laplacian", **flow}
        again = fuse_seen(fused, {**other, "restore": "none"}) if undone else fuse_seen(sources, {**other, **resize})
        panels.append(("laplacian" + ", restored" * undone, again[0]))
    return panels, result


def _label(source: "Picture", shown: "Picture") -> str:
    """Name of a source, and its own size where it is shown in another."""
    return source.name if source.size == shown.size else f"{source.name}, {source.size[0]}x{source.size[1]} enlarged"
