"""Makes the pictures of docs/gallery.md, the tutorial and the README: python docs/build_gallery.py.

Photographs are scikit-image's own: coffee (Rachel Michetti, CC0), chelsea (Stéfan van der Walt, CC0), astronaut (NASA,
public domain). Their second exposure or focus is made here; infrared, night and tracer pictures are rendered.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, shift
from skimage import data
from skimage.transform import resize

from fusionkit.comparison import fuse_seen
from fusionkit.images import Picture
from fusionkit.images.picture import Array
from fusionkit.images.sheet import contact_sheet
from fusionkit.method.degrade import made_pictures
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import choose
from fusionkit.scenes import SCENES
from fusionkit.writing import write_image

FOLDER = Path(__file__).with_name("gallery")
SIZE = (300, 400)
Scene = tuple[tuple[str, str], tuple[Array, Array]]


def photograph(name: str) -> Array:
    """One of scikit-image's, cut to the gallery's shape, in [0, 1]."""
    image = getattr(data, name)()
    height, width = image.shape[:2]
    wide = min(width, height * SIZE[1] // SIZE[0])
    tall = wide * SIZE[0] // SIZE[1]
    top, left = (height - tall) // 2, (width - wide) // 2
    return resize(image[top : top + tall, left : left + wide], SIZE, anti_aliasing=True)


def exposures(name: str, *, lamp: float = 0.7) -> Scene:
    """A photograph under a light from the left that no single exposure holds, twice."""
    place = np.linspace(0, 1, SIZE[1])[None, :, None]
    scene = photograph(name) ** 2.2 * (0.12 + 3.5 * np.exp(-(((place - lamp) / 0.22) ** 2)))
    under, over = ((scene * gain).clip(0, 1) ** (1 / 2.2) for gain in (0.33, 3.2))
    return ("under", "over"), (under, over)


def foci(name: str, center: tuple[float, float], radii: tuple[float, float]) -> Scene:
    """A photograph, sharp in an ellipse and blurred outside, and the other way round."""
    image = photograph(name)
    y, x = np.mgrid[0 : 1 : SIZE[0] * 1j, 0 : 1 : SIZE[1] * 1j]
    near = (((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 < 1).astype(float)
    near = gaussian_filter(near, 2)[:, :, None]
    blurred = gaussian_filter(image, (2.5, 2.5, 0))
    return ("near", "far"), (near * image + (1 - near) * blurred, near * blurred + (1 - near) * image)


def lights() -> Scene:
    """The cat before small lights, which become discs where they are out of focus."""
    image = photograph("chelsea")
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    near = gaussian_filter(((x / SIZE[1]) < 0.72).astype(float), 3)[:, :, None]
    lit, places = image.copy(), [(40, 330), (90, 372), (150, 345), (215, 375), (262, 335)]
    for row, column in places:
        lit[(y - row) ** 2 + (x - column) ** 2 < 9] = 1.0
    discs = gaussian_filter(image, (3, 3, 0))
    for row, column in places:
        disc = gaussian_filter(((y - row) ** 2 + (x - column) ** 2 < 121).astype(float), 1)[:, :, None]
        discs = discs + 0.55 * disc * (1 - discs)
    blurred = gaussian_filter(image, (3, 3, 0))
    return ("near", "far"), (near * image + (1 - near) * discs, near * blurred + (1 - near) * lit)


def head() -> Scene:
    """A phantom of a head, and where a tracer went, rendered."""
    phantom = resize(data.shepp_logan_phantom(), (300, 300), anti_aliasing=True)
    wide = np.pad(phantom, ((0, 0), (50, 50)))
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1.33 : 1.33 : SIZE[1] * 1j]
    tracer = sum(
        a * np.exp(-((x - u) ** 2 + (y - v) ** 2) / s)
        for a, u, v, s in ((0.9, 0.25, -0.2, 0.02), (0.6, -0.3, 0.15, 0.05))
    )
    tracer = gaussian_filter(tracer + 0.35 * (wide > 0.1), 5).clip(0, 1)
    color = np.stack([tracer, 0.55 * tracer**1.5, 0.2 * (1 - tracer) * (tracer > 0.05)], axis=2)
    return ("PET", "MRI"), (color.clip(0, 1), wide[:, :, None].clip(0, 1))


def rendered(name: str, seed: int) -> Scene:
    """One of `fusionkit.scenes`."""
    first, second = made_pictures(name, SIZE, seed)
    return (first.name, second.name), (first.pixels, second.pixels)


def moved(scene: Scene, pixels: float) -> Scene:
    """The first source `pixels` to the right of where it belongs."""
    roles, (first, second) = scene
    return roles, (shift(first, (0, pixels, 0), order=1, mode="nearest"), second)


# name: scene, task
PICTURES: dict[str, tuple[Scene, str]] = {
    "infrared-1": (rendered("infrared-visible", 1), "ivif"),
    "infrared-2": (rendered("infrared-visible", 2), "ivif"),
    "night": (rendered("noisy-night", 0), "ivif"),
    "exposures-coffee": (exposures("coffee", lamp=0.25), "mef"),
    "exposures-astronaut": (exposures("astronaut", lamp=0.75), "mef"),
    "exposures-window": (rendered("multi-exposure", 2), "mef"),
    "focus-coffee": (foci("coffee", (0.5, 0.5), (0.3, 0.42)), "mff"),
    "focus-cat": (foci("chelsea", (0.52, 0.5), (0.33, 0.45)), "mff"),
    "focus-lights": (lights(), "mff"),
    "medical": (head(), "medical"),
    "failure-infrared": (moved(rendered("infrared-visible", 3), 9), "ivif"),
    "failure-exposures": (moved(exposures("astronaut", lamp=0.75), 7), "mef"),
    "failure-focus": (moved(foci("coffee", (0.5, 0.5), (0.3, 0.42)), 7), "mff"),
    "failure-medical": (moved(head(), 12), "medical"),
}
HERO = ("night", "exposures-coffee")
# name of one of PICTURES, and options that are shown side by side on it, for the tutorial
OPTIONS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "looks": (
        "infrared-1",
        {
            "--look faithful": {"look": "faithful"},
            "the default": {},
            "--look hot": {"look": "hot"},
            "--palette iron:120,255": {"palette": "iron:120,255"},
        },
    ),
    "aligned": ("failure-infrared", {"9 pixels off": {"align": "none"}, "--align affine": {"align": "affine"}}),
}


def sources(scene: Scene) -> list[Picture]:
    """A scene's pictures, as files of 8 bits would hold them."""
    return [Picture((255 * i + 0.5).astype(np.uint8), "8", (0.0, 255.0), name=r) for r, i in zip(*scene, strict=True)]


def fused(pictures: Sequence[Picture], task: str, choices: Mapping[str, Any]) -> Array:
    """What `fusionkit run` makes of them."""
    return Pipeline(choose(task, None, choices), device="cpu").fuse_pictures(pictures).picture.pixels


def panels(scene: Scene, task: str, restore: Sequence[str] = ()) -> list[tuple[str, Array]]:
    """Sources, their average and the result, with their names. restore: what is undone beside what is found."""
    pictures = sources(scene)
    plain = {"prior": "average", "backbone": "identity", "align": "none", "restore": "none", "resize": "reference"}
    average, shown = fuse_seen(pictures, plain)
    result = fused(pictures, task, {"resize": "reference", "restore": ("auto", *restore)})
    return [*((p.name, p.pixels) for p in shown), ("average", average), (f"--task {task}", result)]


def main() -> None:
    """All of them."""
    FOLDER.mkdir(exist_ok=True)
    rows: dict[str, Sequence[tuple[str, Array]]] = {}
    for name, (scene, task) in PICTURES.items():
        rows[name] = panels(scene, task, SCENES["noisy-night"].restore if name == "night" else ())
        write_image(FOLDER / f"{name}.jpg", contact_sheet(rows[name], columns=4), "8", quality=88)
    for name, (of, options) in OPTIONS.items():
        scene, task = PICTURES[of]
        row = [(label, fused(sources(scene), task, choices)) for label, choices in options.items()]
        write_image(FOLDER / f"{name}.jpg", contact_sheet(row, columns=len(row)), "8", quality=88)
    hero = [
        (label if label != f"--task {task}" else "fusionkit", image)
        for name in HERO
        for label, image in rows[name]
        if label != "average"
        for task in (PICTURES[name][1],)
    ]
    write_image(FOLDER / "hero.jpg", contact_sheet(hero, columns=3), "8", quality=90)


if __name__ == "__main__":
    main()
