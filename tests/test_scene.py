"""Scenes of this package, recognised."""

import pytest
import torch
from PIL import Image

from fusionkit.contracts import Sources
from fusionkit.images.metadata import UNSTATED, CameraSettings, camera_settings, read_exif, settings_in
from fusionkit.method.pictures import reference_of
from fusionkit.numerics.luma import colorful, luma
from fusionkit.scene import bracketed, recognise, written
from fusionkit.scenes import SCENES

KINDS = {
    "infrared-visible": "heat",
    "noisy-night": "heat",
    "multi-exposure": "exposure",
    "multi-focus": "focus",
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(SCENES))
def test_the_kind_of_a_scene(name, seed):
    images = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in SCENES[name].make((120, 160), seed=seed)]
    assert recognise([luma(x) for x in images], [bool(colorful(x)) for x in images]) == KINDS[name]
    assert Sources.of(images).scenes == (KINDS[name],)


def test_two_scans_in_the_same_black():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    head = ((x**2 + y**2) < 0.6).float()
    a, b = head * (0.5 + 0.4 * torch.sin(9 * x)), head * (0.6 + 0.3 * torch.cos(7 * y))
    images = [a[None, None], b[None, None]]
    assert recognise(images, [False, False]) == "contrast"


def test_constants_and_one_source_are_no_error():
    flat = torch.full((1, 1, 20, 20), 0.5)
    assert recognise([flat], [False]) == "focus"
    assert recognise([flat, flat], [False, False]) == "heat"


def test_uniform_frames_of_different_brightness_are_exposures():
    frames = [torch.full((1, 1, 20, 20), level) for level in (0.0, 0.5, 1.0)]
    assert recognise(frames, [False] * 3) == "exposure"


@pytest.fixture
def room():
    """An under-exposed and an over-exposed picture of a room, in colour."""
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in SCENES["multi-exposure"].make((120, 160))]


def kind(*images):
    return recognise([luma(x) for x in images], [bool(colorful(x)) for x in images])


@pytest.mark.parametrize("stops", [6, 9, 11])
def test_a_frame_that_is_nearly_black_belongs_to_its_bracket(room, stops):
    """Most of it black in 8 bits, and no colour left to be seen."""
    under = ((room[0] * 2 ** (-stops / 2.2)) * 255).round() / 255
    assert kind(under, room[1]) == "exposure"


def test_a_frame_that_shows_nothing_but_lamps_belongs_to_its_bracket(generator):
    """Ranks of what is black in it are arbitrary; lamps are clipped in the other frame."""
    ground, lamps = 0.1 + 0.2 * torch.rand(1, 3, 64, 96, generator=generator), torch.zeros(1, 3, 64, 96)
    lamps[..., 20:28, 30:40] = lamps[..., 40:46, 70:80] = 1.0
    under = torch.tensor([0.10, 0.06, 0.02]).view(1, 3, 1, 1) * lamps
    assert kind(under, torch.maximum(ground, lamps)) == "exposure"
    beside = torch.maximum(ground, lamps.flip(-1))  # bright elsewhere: other spectral bands
    assert kind(under, beside) == "contrast"


def test_exposures_of_a_night_are_no_scans(room):
    """Much is black in both, as around a scan."""
    under, over = ((x - black).clamp_min(0) for x, black in zip(room, (0.3, 0.56), strict=True))
    assert float((luma(over) < 0.03).float().mean()) > 0.33
    assert kind(under, over) == "exposure"


def test_dim_frames_are_exposures_where_one_is_much_darker(room):
    """Their difference is small, but not against their brightness."""
    dim = 0.2 * room[1]
    assert float((luma(dim) - luma(0.5 * dim)).mean()) < 0.1
    assert kind(0.5 * dim, dim) == "exposure"
    assert kind(0.8 * dim, dim) == "focus"


class TestWhatTheCameraWrote:
    def shots(self, *exposures, distances=(), camera="Maker Model 50.0"):
        far = distances or (None,) * len(exposures)
        return [CameraSettings(t, 8.0, 100, d, camera) for t, d in zip(exposures, far, strict=True)]

    @pytest.mark.parametrize(
        ("settings", "kind"),
        [
            ({"exposures": (1 / 100, 1 / 50, 1 / 25)}, "exposure"),
            ({"exposures": (1 / 50, 1 / 50, 1 / 50), "distances": (0.3, 0.35, 0.4)}, "focus"),
            ({"exposures": (1 / 50, 1 / 45, 1 / 50), "distances": (0.3, 0.35, 0.4)}, "focus"),
            ({"exposures": (1 / 50, 1 / 50)}, None),  # of one kind or another
            ({"exposures": (1 / 50, 1 / 40)}, None),
            ({"exposures": (1 / 50, None, 1 / 10)}, None),
            ({"exposures": (1 / 50, 1 / 10), "camera": ""}, None),
        ],
    )
    def test_decides(self, settings, kind):
        shots = self.shots(*settings["exposures"], **{k: v for k, v in settings.items() if k != "exposures"})
        assert written(shots) == kind

    def test_before_any_statistics(self, room):
        """Frames a stop apart look like focus settings; alike exposures are none, whatever they show."""
        near = [room[1], (room[1] * 0.8).clamp(0, 1)]
        lumas, colors = [luma(x) for x in near], [True, True]
        assert recognise(lumas, colors) == "focus"
        assert recognise(lumas, colors, self.shots(1 / 50, 1 / 100)) == "exposure"
        assert recognise([luma(x) for x in room], colors, self.shots(1 / 50, 1 / 50)) != "exposure"
        assert recognise(lumas, [False, False], self.shots(1 / 50, 1 / 100)) == "focus"  # bands, each for itself

    def test_the_middle_exposure_is_the_reference(self):
        shots = self.shots(1 / 100, 1 / 4, 1 / 25)
        assert bracketed(shots) == 2
        assert reference_of([True] * 3, 0, shots) == 2
        assert reference_of([True] * 3, 1, shots) == 0
        assert reference_of([False, True, False], 0, shots) == 1
        assert reference_of([False] * 3, 0, shots) == 2
        assert reference_of([True] * 3, 0, self.shots(1 / 4, 1 / 4, 1 / 4)) == 2
        longest_first = self.shots(1 / 4, 1 / 25, 1 / 100, 1 / 400, 1 / 8)
        assert reference_of([True] * 5, 0, longest_first) == 1

    def test_is_read_from_files(self, tmp_path):
        exif = Image.Exif()
        exif[271], exif[272] = "Maker", "Model"
        exif.get_ifd(0x8769).update({33434: 0.02, 33437: 4.0, 34855: 200, 37382: 1.5, 37386: 50.0})
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
        found = settings_in(tmp_path / "a.jpg")
        assert found == CameraSettings(0.02, 4.0, 200.0, 1.5, "Maker Model 50.0")
        assert found.exposure == pytest.approx(0.02 * 2 / 16)
        assert camera_settings(read_exif(exif.tobytes(), b"", [])) == found
        (tmp_path / "b.jpg").write_bytes(b"none")
        assert settings_in(tmp_path / "b.jpg") == UNSTATED
