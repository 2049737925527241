"""`fusionkit survival`: the smallest target that a method keeps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import NoEffect, OptionError
from ..method.choice import merge_choices
from .fields import compared_options, with_options
from .given import Given
from .parameters import Device, Force, Priors, Set

if TYPE_CHECKING:
    from ..survival import Survival

PAIRS = 10  # followed by default


@with_options(*compared_options(skip=("crop", "resize")))
def survival(
    pairs: Annotated[tuple[Path, Path], typer.Argument(metavar="A B", help="Folders of the sources, or two pictures.")],
    priors: Priors = "",
    contrast: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0.005, max=1, help="Contrast at a target's middle, as a share of the range."),
    ] = 0.2,
    noise: Annotated[
        float,
        typer.Option(
            metavar="LEVELS", min=0, max=50, help="White noise that is added to the sources, in levels of 255."
        ),
    ] = 0.0,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Pairs at most, spread over the folders.", show_default=str(PAIRS)),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Report with everything, .json.")] = None,
    values: Set = [],  # noqa: B006
    device: Device = "auto",
    force: Force = False,
    **given: Any,
) -> None:
    """Put small targets into one source and count those that an ideal observer still finds in the fusion.

    fusionkit survival ir vis
    fusionkit survival ir vis --priors em_tv,laplacian --contrast 0.1 --noise 5

    Of the targets that the observer finds in their source, the table shows the share that is kept, by width in pixels;
    the smallest width from which on 90 % are kept; and the share of the result's finds that no source has. The options
    of a method that `fusionkit run` lists are taken here, too, such as --align; they hold for all priors.
    """
    from ..comparison import scene_of, suitable
    from ..reading import read_image
    from ..reading.matching import match_folders, spread
    from ..survival import APART, SIZES
    from ..survival import survival as follow
    from .progress import progress
    from .reports import check_report, write_record

    check_report(output, ".json", force=force)
    base = Given(given).common(values)
    groups: Sequence[tuple[Path, ...]] = [pairs]
    if all(path.is_dir() for path in pairs):
        groups = spread(match_folders(pairs).groups, limit or PAIRS)
    elif any(path.is_dir() for path in pairs):
        raise OptionError("give two folders or two pictures, not one of each")
    elif limit:
        raise NoEffect(f"`limit={limit}` has no effect on two pictures; it is read with folders")
    scenes = [[read_image(path) for path in group] for group in groups]
    methods = suitable(scene_of(scenes[0]), priors)
    methods = {name: merge_choices(base, choices) for name, choices in methods.items()}
    with progress("methods", len(methods)) as say:
        found = list(follow(scenes, methods, contrast=contrast, noise=noise / 255, device=device, report=say))
    if all(one.reason for one in found):
        raise OptionError(f"{found[0].name}: {found[0].reason}")
    if not any(one.targets for one in found):
        raise OptionError(
            f"the observer finds no target in its source; raise --contrast, lower --noise, or give pictures of more "
            f"than {APART * SIZES[-1]:g} pixels a side"
        )
    if output is not None:
        about = {"pairs": [[str(path) for path in group] for group in groups], "contrast": contrast, "noise": noise}
        write_record(output, {**about, "methods": [one.record() for one in found]})
    _print(found)


def _print(found: "list[Survival]") -> None:
    from ..survival import SIZES
    from .messages import printable
    from .reports import finite, print_table

    heads, rows = ("kept, by width", *(f"{w:g}" for w in SIZES), "smallest kept", "95 %", "invented"), []
    for one in sorted(found, key=lambda one: (math.isnan(one.smallest()[0]), one.smallest()[0])):
        if one.reason:
            typer.echo(f"skipped {printable(f'{one.name}: {one.reason}')}", err=True)
            continue
        counts = [one.kept(size) for size in range(len(SIZES))]
        shares = [f"{kept / of:.0%}" if of else "-" for kept, of in counts]
        best, low, high = (f"{w:g}" if math.isfinite(w) else f"> {SIZES[-1]:g}" for w in one.smallest())
        rows.append((one.name, *shares, best, f"{low} to {high}", finite(".1%", one.invented())))
    print_table(heads, rows, 100 + max(len(one.name) for one in found))
    most = max((one for one in found if not one.reason), key=lambda one: len(one.targets), default=None)
    if most is not None:
        numbers = ", ".join(str(most.kept(size)[1]) for size in range(len(SIZES)))
        typer.echo(f"targets found in their source, by width: {numbers}")
