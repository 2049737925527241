"""Contract of writers."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ..contracts import Writer
from ..errors import FusionkitError, OutputError
from ..images.metadata import Metadata
from ..images.picture import DTYPE, PEAK, Depth, Picture
from ..reading import read_image
from ..registry.loading import get_registry
from ..registry.records import WriterRecord
from ..writing import check_output, extension_of, store_volume, writable_extensions, write_image
from .plugin import PluginContract

SIZE = (19, 26)  # rows and columns of the pictures that are written
KELVIN = (250.0, 320.0)  # black and white of pictures of floats


class WriterContract(PluginContract):
    """Contract of a writer: see `fusionkit.contracts.Writer`.

    precision: largest error of stored values of integers, and of floats by their span, for formats that lose some.
    reads: whether a reader is installed that takes the files; without one, what they hold is not compared.
    """

    kind = "writer"
    precision: ClassVar[float] = 0.0
    reads: ClassVar[bool] = True

    @property
    def record(self) -> WriterRecord:
        """What it states of its files."""
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, WriterRecord)
        return record

    def pictures(self) -> list[Picture]:
        """Pictures of all depths and colours that the record and the writer allow."""
        made, rng = [], np.random.default_rng(0)
        for depth in self.record.depths:
            for channels in (1, 3) if self.record.color else (1,):
                if type(self.make()).refuses(depth, channels, alpha=False):
                    continue
                y, x = np.mgrid[: SIZE[0], : SIZE[1]]
                unit = np.stack([(x + y * (c + 1)) / (SIZE[1] + SIZE[0] * 3) for c in range(channels)], 2)
                unit = (unit + 0.02 * rng.random(unit.shape)).clip(0, 1).astype(np.float32)
                values = unit if depth == "float" else np.rint(unit * PEAK[depth]).astype(DTYPE[depth])
                span = KELVIN if depth == "float" else (0.0, PEAK[depth])
                made.append(Picture(values, depth, span, name=f"{depth} {channels}"))
        return made

    def written(self, folder: Path, picture: Picture, extension: str = "") -> tuple[Path, list[str]]:
        """A file of a picture, as a user writes it, and its notes."""
        path = folder / f"example{extension or self.record.extensions[0]}"
        return path, write_image(path, picture, picture.depth)

    def test_its_extensions_choose_it(self) -> None:
        """Lower case, with the dot; all depths are known, and the first is accepted."""
        assert self.record.extensions
        for extension in self.record.extensions:
            assert extension == extension.lower()
            assert extension.startswith(".")
            assert extension in writable_extensions()
            assert extension_of(Path(f"A.B{extension.upper()}")) == extension
            check_output(Path(f"a{extension}"), self.record.depths[0], 1)

    def test_what_it_writes_is_read_back(self, tmp_path: Path) -> None:
        """Values of every depth and colour, by every extension; the folder holds the file alone."""
        if not self.reads:
            pytest.skip("`reads` is False: no reader takes its files")
        pictures = self.pictures()
        assert pictures
        for picture in pictures:
            for extension in self.record.extensions:
                path, _ = self.written(tmp_path, picture, extension)
                assert list(tmp_path.iterdir()) == [path]
                found = read_image(path, picture.span if picture.depth == "float" else "auto", picture=0)
                assert found.channels in (picture.channels, 3)
                if picture.depth == "float":
                    error = np.abs(found.pixels - picture.pixels).max()
                    assert error <= max(self.precision, 2e-5), picture
                else:
                    error = np.abs(found.stored(picture.depth).astype(float) - picture.stored()).max()
                    assert error <= self.precision, picture
                path.unlink()

    def test_volumes_are_read_back(self, tmp_path: Path) -> None:
        """Slices in their order, where the record says so."""
        if not self.record.volumes:
            pytest.skip("its files hold one picture")
        for picture in self.pictures():
            slices = [replace(picture, values=picture.values[::turn]) for turn in (1, -1, 1)]
            path = tmp_path / f"example{self.record.extensions[0]}"
            store_volume(path, slices, picture.depth)
            for k, one in enumerate(slices if self.reads else []):
                found = read_image(path, picture.span if picture.depth == "float" else "auto", picture=k)
                assert np.abs(found.pixels - one.pixels).max() <= max(self.precision, 2e-5), (picture, k)

    def test_the_picture_stays_as_it_is(self, tmp_path: Path) -> None:
        for picture in self.pictures():
            before = picture.values.copy()
            self.written(tmp_path, picture)
            assert np.array_equal(picture.values, before)

    def test_depths_that_it_does_not_state_are_refused(self) -> None:
        depths: tuple[Depth, ...] = ("8", "16", "float")
        for depth in set(depths) - set(self.record.depths):
            with pytest.raises(OutputError, match="cannot hold"):
                check_output(Path(f"a{self.record.extensions[0]}"), depth, 1)

    def test_alpha_is_kept_or_said(self, tmp_path: Path) -> None:
        picture = self.pictures()[0]
        alpha = np.tile(np.linspace(0.1, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))
        path, notes = self.written(tmp_path, replace(picture, alpha=alpha))
        assert any("no alpha" in note for note in notes) != self.record.alpha
        if self.record.alpha and self.reads:
            found = read_image(path, picture.span if picture.depth == "float" else "auto", picture=0)
            assert found.alpha is not None
            assert np.abs(found.alpha - alpha).max() < 1 / PEAK["8"]

    def test_places_without_data_stay_such(self, tmp_path: Path) -> None:
        """In grey, where the record says so; and no other pixel becomes one."""
        if "nodata" not in self.record.keeps:
            pytest.skip("its files have no value for that")
        for picture in (p for p in self.pictures() if p.channels == 1):
            valid = np.ones(SIZE, bool)
            valid[3:6, 4:9] = False
            values: np.ndarray[Any, Any] = picture.values.copy()
            values[10:, 10:] = 0
            path, _ = self.written(tmp_path, replace(picture, values=values, valid=valid))
            if self.reads:
                found = read_image(path, picture.span if picture.depth == "float" else "auto", picture=0)
                assert found.valid is not None, picture
                assert np.array_equal(found.valid, valid), picture

    def test_what_it_cannot_keep_is_said(self, tmp_path: Path) -> None:
        """EXIF and XMP: a note where files have no place for them."""
        picture = replace(self.pictures()[0], metadata=Metadata(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"))
        _, notes = self.written(tmp_path, picture)
        assert any("holds no metadata" in note for note in notes) != ("exif" in self.record.keeps)

    def test_one_pixel_can_be_written(self, tmp_path: Path) -> None:
        for picture in self.pictures():
            path, _ = self.written(tmp_path, picture.part(slice(0, 1), slice(0, 1)))
            assert path.stat().st_size

    def test_a_failure_is_one_line_and_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(_writer: Writer, path: Path, _stored: object) -> list[str]:
            path.write_bytes(b"half")
            raise ValueError("no\nroom")

        monkeypatch.setattr(type(self.make()), "write", fails)
        with pytest.raises(FusionkitError) as caught:
            self.written(tmp_path, self.pictures()[0])
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
