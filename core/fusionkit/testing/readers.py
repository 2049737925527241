"""Contract of readers."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ..contracts import Reader, Stored
from ..errors import FusionkitError
from ..reading import count_pictures, read_image
from ..registry.loading import get_registry
from ..registry.records import ReaderRecord
from .plugin import PluginContract


class ReaderContract(PluginContract):
    """Contract of a reader: see `fusionkit.contracts.Reader`.

    write: makes an example file; tests that need one are skipped without it. extension: of that file, by default the
    record's first one. precision: largest error of stored values.
    """

    kind = "reader"
    extension: ClassVar[str] = ""
    precision: ClassVar[float] = 0.0

    def write(self, path: Path) -> "np.ndarray[Any, Any]":
        """Make an example file; returns the stored values of its first picture, (H, W, 1 or 3)."""
        pytest.skip("`write` is missing: it makes the example file")

    def example(self, folder: Path) -> tuple[Path, "np.ndarray[Any, Any]"]:
        """Make the example file; returns its path and the values in it."""
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, ReaderRecord)
        path = folder / f"example{self.extension or record.extensions[0]}"
        return path, self.write(path)

    def test_it_reads_what_was_written(self, tmp_path: Path) -> None:
        """Values, upright, in their type; the file stays as it is."""
        path, expected = self.example(tmp_path)
        before = path.read_bytes()
        reader: Reader = self.make()
        found = reader.read(path, 10**9)
        assert found
        for stored in found:
            assert isinstance(stored, Stored)
            assert stored.values.ndim == 3
            assert stored.values.shape[2] in (1, 3)
            assert stored.alpha is None or stored.alpha.shape == stored.values.shape[:2]
        assert np.abs(found[0].values.astype(float) - expected).max() <= self.precision
        assert path.read_bytes() == before

    def test_files_find_it(self, tmp_path: Path) -> None:
        """`fusionkit.read_image` takes the example, and the record says so where it holds several pictures."""
        path, _ = self.example(tmp_path)
        count = len(self.make().read(path, 10**9))
        picture = read_image(path, "auto", picture=0)
        assert picture.pixels.min() >= 0
        assert picture.pixels.max() <= 1
        assert count == count_pictures(path)

    def test_too_many_pixels_are_refused(self, tmp_path: Path) -> None:
        """By the reader or by fusionkit, whichever sees it first."""
        path, expected = self.example(tmp_path)
        with pytest.raises(FusionkitError, match="over the limit"):
            read_image(path, max_pixels=expected.shape[0] * expected.shape[1] - 1, picture=0)

    def test_a_cut_file_is_one_line(self, tmp_path: Path) -> None:
        """Whatever error the decoder raises."""
        path, _ = self.example(tmp_path)
        content = path.read_bytes()
        for share in (0.02, 0.5):
            path.write_bytes(content[: max(1, int(share * len(content)))])
            said = ""
            try:
                read_image(path, picture=0)  # some formats can be shown in part
            except FusionkitError as error:
                said = str(error)
            assert "\n" not in said
            assert not said or str(path) in said
