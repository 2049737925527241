"""Peak memory and seconds of one large pair through the default method, files included."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image

SCENE = 3000, 4000  # larger ones repeat it: made at once, 100 megapixels would take more memory than anything here
# read, fuse and write in a process of its own, so that making the pair does not count
RUN = "from fusionkit.cli.app import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(3000, 4000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--prior", default="em_tv")
    parser.add_argument("--backbone", default="rf")
    parser.add_argument("--noise", type=float, default=0.0, metavar="LEVELS", help="of 255, white, on both images")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        height, width = arguments.size
        generator, least = np.random.default_rng(0), (min(height, SCENE[0]), min(width, SCENE[1]))
        for file, image in zip(("ir.png", "vis.png"), infrared_visible(least), strict=True):
            often = (-(-height // least[0]), -(-width // least[1]), 1)
            stored = np.tile(image.astype(np.float32).reshape(*least, -1), often)[:height, :width]
            if arguments.noise:
                stored += arguments.noise / 255 * generator.standard_normal(stored.shape, np.float32)
            write_image(folder / file, stored.clip(0, 1, out=stored), "8")
        command = ["run", "--prior", arguments.prior, "--backbone", arguments.backbone, "--device", "cpu"]
        command += ["--precision", arguments.precision]
        files = [str(folder / "ir.png"), str(folder / "vis.png"), "-o", str(folder / "fused.png")]
        subprocess.run([sys.executable, "-c", RUN, *command, *files], check=True, stdout=subprocess.DEVNULL)
        row = json.loads((folder / "fused.manifest.jsonl").read_text())
        print(f"{arguments.size[1]}x{arguments.size[0]}  peak {row['peak_memory_mb'] / 1e3:.2f} GB  {row['seconds']}")


if __name__ == "__main__":
    main()
