"""Makes the pictures of docs/gallery.md from procedural scenes with the tasks' defaults.

python docs/build_gallery.py
"""

from pathlib import Path

from fusionkit.images import Picture, write_image
from fusionkit.images.sheet import contact_sheet
from fusionkit.method.config import choose
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import SCENES

FOLDER = Path(__file__).with_name("gallery")
SIZE = (240, 320)
PICTURES = {
    "infrared-visible": ("ivif", (1, 2, 3, 4)),
    "multi-exposure": ("mef", (1, 2, 3)),
    "multi-focus": ("mff", (1, 2, 3)),
}


def main() -> None:
    """Sources, their average and the result, side by side."""
    for scene, (task, seeds) in PICTURES.items():
        make, roles = SCENES[scene]
        pipelines = {
            "average": Pipeline(choose(None, None, {"prior": "average", "backbone": "identity"}), device="cpu"),
            f"--task {task}": Pipeline(choose(task, None, {"backbone": "identity"}), device="cpu"),
        }
        for seed in seeds:
            images = [image.astype("float32") for image in make(SIZE, seed=seed)]
            panels = list(zip(roles, images, strict=True))
            sources = [Picture(image, "8", (0.0, 255.0), name=role) for role, image in panels]
            panels += [(name, p.fuse_pictures(sources).picture.pixels) for name, p in pipelines.items()]
            write_image(FOLDER / f"{scene}-{seed}.jpg", contact_sheet(panels, columns=4), "8")


if __name__ == "__main__":
    main()
