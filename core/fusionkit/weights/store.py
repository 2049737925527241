"""Stored weights: in the user's folder, and in the folders `weights` of packages that ship some."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from ..registry.kinds import KINDS
from ..registry.shipped import package_folders, shipped_folders
from ..storage.home import home_folder
from .files import WeightsFile, open_weights

FOREIGN = (".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class Stored:
    """Weights that can be chosen by name. shipped: they belong to an installed package."""

    name: str
    file: WeightsFile
    shipped: bool

    @property
    def plugin(self) -> tuple[str, str]:
        """Kind and name of the plug-in that they belong to."""
        text = self.file.section("kind")
        kind, _, name = text.partition(" ") if isinstance(text, str) else ("", "", "")
        if kind not in KINDS or not name.isprintable():
            raise WeightsError(f"{self.file.json}: kind must be a kind and a name, such as 'prior mine'")
        return kind, name


def user_folder() -> Path:
    """Name the folder of imported weights: $FUSIONKIT_HOME/weights, or one in the platform's folder for caches."""
    return home_folder() / "weights"


def check_name(name: str) -> None:
    """Refuse names that could be taken for files."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", name)
    if not fits or Path(name).suffix.lower() in (*FOREIGN, ".safetensors", ".json"):
        raise WeightsError(f"{name!r} cannot name weights: letters, digits, '.', '_' and '-', without an extension")


def find_weights(name: str, package: str, fallback: str) -> WeightsFile:
    """Find weights: `name` is a path to a .safetensors file, or a name in the user's folder or in `package`.

    fallback: what works without them, for the error.
    """
    if Path(name).suffix.lower() in FOREIGN:
        raise WeightsError(
            f"weights {name}: only .safetensors files with a .json beside them are read; "
            f"`fusionkit weights import` converts it and gives it a name"
        )
    folders = [user_folder(), *package_folders(package, "weights")]
    by_path = name.endswith(".safetensors")
    candidates = [Path(name)] if by_path else [folder / f"{name}.safetensors" for folder in folders]
    for path in candidates:
        if path.is_file():
            return open_weights(path)
    looked = "" if by_path else f" in {' or '.join(map(str, folders))}"
    raise WeightsError(
        f"weights {name!r} not found{looked}; `fusionkit weights list` lists those that are, `fusionkit weights "
        f"import` takes in a published checkpoint; without them, {fallback}"
    )


def list_weights() -> Iterator[Stored | WeightsError]:
    """List all weights that can be chosen by name, the user's first; an error stands for a broken one."""
    for folder in (user_folder(), *shipped_folders("weights")):
        for path in sorted(folder.glob("*.safetensors")):
            if path.name.startswith(".") or not path.is_file():
                continue
            try:
                stored = Stored(path.stem, open_weights(path), shipped=folder != user_folder())
                _ = stored.plugin
                yield stored
            except WeightsError as error:
                yield error


def get_weights(name: str) -> Stored:
    """Get the weights called `name`."""
    found = list(list_weights())
    for stored in found:
        if isinstance(stored, Stored) and stored.name == name:
            return stored
    broken = [str(e) for e in found if isinstance(e, WeightsError) and f"{name}." in str(e)]
    if broken:
        raise WeightsError(broken[0])
    known = ", ".join(s.name for s in found if isinstance(s, Stored))
    raise WeightsError(f"no weights {name!r} in {user_folder()} or among the shipped; there are: {known or 'none'}")


def remove_weights(name: str) -> Path:
    """Delete imported weights and their JSON; shipped ones are refused."""
    check_name(name)
    path = user_folder() / f"{name}.safetensors"
    if not path.is_file():
        stored = get_weights(name)  # raises where the name is unknown
        raise WeightsError(f"weights {stored.name!r} are shipped with a package; only imported ones can be removed")
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)
    return path
