"""`fusionkit demo`: fuse generated scenes, without any file of your own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError
from ..registry.kinds import DISTRIBUTION, METHOD
from ..registry.loading import short_name
from ..scenes import SCENES, Scene
from .fields import part_options, with_options

if TYPE_CHECKING:
    from ..images.picture import Array, Picture

__all__ = ["demo"]


@with_options(*part_options("Method", only=("prior", "backbone"), options=False))
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("fusionkit-demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier demo.")] = False,
    **given: Any,
) -> None:
    """Make pairs of images by code, fuse them, and write one comparison picture per pair."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; -o FOLDER writes elsewhere")
    if output.exists() and any(output.iterdir()) and not force:
        raise OutputError(f"{output}: exists already; --force overwrites it, -o FOLDER writes elsewhere")

    from ..images import write_image
    from ..images.sheet import contact_sheet
    from ..method.degrade import made_pictures

    prior = given["prior"] or f"{DISTRIBUTION}:{METHOD['prior'].default}"
    flow = {"backbone": given["backbone"]} if given["backbone"] else {}
    methods = {
        "average": {"prior": f"{DISTRIBUTION}:average", "backbone": f"{DISTRIBUTION}:identity"},
        short_name(prior): {"prior": prior, **flow},
    }
    methods.setdefault("laplacian", {"prior": f"{DISTRIBUTION}:laplacian", **flow})
    for task, scene in SCENES.items():
        sources = made_pictures(task, seed=seed)
        for source in sources:
            write_image(output / task / f"{source.name.replace(' ', '-')}.png", source.pixels, "8")
        panels, fused = _compared(scene, sources, methods, short_name(prior))
        write_image(output / task / "fused.png", fused, "8")
        path = output / f"{task}.png"
        write_image(path, contact_sheet(panels, columns=3 if len(panels) < 7 else 4), "8", png_level=6)
        typer.echo(str(path))


demo.__doc__ = f"""{demo.__doc__}

{fill(f"The scenes are {'; '.join(scene.shows for scene in SCENES.values())}.", 110)}

Each comparison shows both sources, their average, the chosen prior and the prior `laplacian`. Of degraded sources it
also shows them as the flow restores them, and the chosen prior without that.
"""


def _compared(
    scene: Scene, sources: Sequence["Picture"], methods: Mapping[str, dict[str, str]], chosen: str
) -> tuple[list[tuple[str, "Array"]], "Array"]:
    """Labelled panels of one size, sources first; and the result of the chosen method."""
    from ..comparison import fuse_seen
    from ..method.config import make_config
    from ..method.pipeline import Pipeline

    undone = bool(scene.degraded) and Pipeline(make_config(methods[chosen])).restorer.able
    restore = ("auto", *scene.restore) if undone else ("auto",)
    result, fused = fuse_seen(sources, {**methods[chosen], "resize": "reference", "restore": restore})
    results = {f"{chosen} (this prior)": result}
    given = fused
    if undone:  # the others take the restored sources, too
        plain, given = fuse_seen(sources, {**methods[chosen], "resize": "reference", "restore": "none"})
        results = {f"{chosen}, nothing restored": plain, f"{chosen} (this prior), restored": result}
    panels = [(_label(a, b), b.pixels) for a, b in zip(sources, given, strict=True)]
    panels += [(f"{picture.name}, restored", picture.pixels) for picture in fused if undone]
    for name, choices in methods.items():
        if name == chosen:
            panels += results.items()
        elif name == "average":
            panels.append((name, fuse_seen(given, {**choices, "restore": "none"})[0]))
        else:
            again = "none" if undone else "auto"
            label = f"{name}, restored" if undone else name
            panels.append((label, fuse_seen(fused, {**choices, "restore": again})[0]))
    return panels, result


def _label(source: "Picture", shown: "Picture") -> str:
    """Name of a source, and its own size where it is shown in another."""
    return source.name if source.size == shown.size else f"{source.name}, {source.size[0]}x{source.size[1]} enlarged"
