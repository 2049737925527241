"""Radiance of rendered brackets: the light that was rendered, whatever the camera's curve."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from skimage import data

import fusionkit
from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import job_of
from fusionkit.batch.run import fuse_files
from fusionkit.errors import InputError, OptionError
from fusionkit.images.accept import as_picture
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.radiance import fuse_radiance, response
from fusionkit.reading import read_image
from harness import load_image

TIMES = (1 / 60, 1 / 15, 1 / 4, 1.0)
WEIGHTS = np.array([0.2126, 0.7152, 0.0722])


def light():
    """Linear light over twelve stops."""
    photo = (data.chelsea()[20:140, 60:240] / 255) ** 2.2 + 0.002
    return 4 * photo * np.exp2(np.linspace(-3, 3, photo.shape[1]))[None, :, None]


def srgb(x):
    x = x.clip(0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def film(x):
    s = x.clip(0, 1) ** (1 / 2.2)
    return 3 * s**2 - 2 * s**3


def bracket(curve, times=TIMES):
    noise = np.random.default_rng(0).normal(0, 1, (len(times), *light().shape))
    return [
        (255 * curve(light() * t) + n + 0.5).clip(0, 255).astype(np.uint8) for t, n in zip(times, noise, strict=True)
    ]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(backbone="identity", restore="none", align="none", device="cpu")


@pytest.fixture
def files(tmp_path):
    """JPEG files with exposure times in their EXIF."""
    paths = []
    for i, (frame, t) in enumerate(zip(bracket(srgb), TIMES, strict=True)):
        exif = Image.Exif()
        exif[271], exif[272] = "Maker", "Model"
        exif.get_ifd(0x8769)[33434] = t
        paths.append(tmp_path / f"{i}.jpg")
        Image.fromarray(frame).save(paths[-1], quality=95, exif=exif)
    return paths


@pytest.mark.parametrize("curve", [srgb, film])
@pytest.mark.parametrize("count", [2, 4])
def test_the_light_that_was_rendered_is_found(pipeline, curve, count):
    times = TIMES[4 - count :]
    pictures = [as_picture(values, "frame") for values in bracket(curve, times)]
    found = fuse_radiance(pipeline, pictures, times, reference=count - 1).picture
    assert found.depth == "float"
    radiance = found.stored()
    seen = (light() * max(times) > 0.004) & (light() * min(times) < 0.95)  # in the range of any frame
    for c in range(3):
        assert spearmanr(radiance[..., c][seen[..., c]], light()[..., c][seen[..., c]])[0] > 0.99
    stops = np.log2(radiance @ WEIGHTS) - np.log2(light() @ WEIGHTS * times[-1])
    assert abs(np.median(stops[seen.all(2)])) < 0.3
    assert np.std(stops[seen.all(2)]) < 0.25


def test_linear_files_are_merged_as_they_are(pipeline):
    pictures = [as_picture((light() * t).clip(0, 1).astype(np.float32), "frame") for t in TIMES]
    found = fuse_radiance(pipeline, pictures, TIMES, reference=3)
    seen = light() * TIMES[0] < 0.95
    np.testing.assert_allclose(found.picture.stored()[seen], light()[seen], rtol=1e-3)
    assert any("linear files" in note for note in found.notes)


def test_a_response_of_flat_frames_is_no_error():
    levels = np.full((3, 40), [[0.1], [0.5], [0.9]])
    curve = response(levels, np.log([0.25, 1.0, 4.0]))
    assert np.isfinite(curve).all()
    assert (np.diff(curve) >= 0).all()


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_a_bracket_with_exif_times_becomes_its_radiance(pipeline, files, tmp_path, suffix):
    pytest.importorskip("OpenEXR" if suffix == ".exr" else "imagecodecs")
    output = tmp_path / f"fused{suffix}"
    outcome = fuse_files(pipeline, job_of(files, output), FileOptions())
    picture = read_image(output)
    (low, high), radiance = picture.span, picture.pixels
    found = (radiance * (high - low) + low) @ WEIGHTS
    assert spearmanr(found.ravel(), (light() @ WEIGHTS).ravel())[0] > 0.99
    assert any(note.startswith("radiance of 4 exposures over 5.9 stops") for note in outcome.notes)


def test_given_times_count_and_fit_or_are_refused(pipeline, files, tmp_path):
    pytest.importorskip("OpenEXR")
    job = job_of(files, tmp_path / "fused.exr")
    times = FileOptions(times=("1/60,1/15", "0.25,1"))
    assert times.times == pytest.approx(TIMES)
    assert "radiance of 4 exposures" in " ".join(fuse_files(pipeline, job, times).notes)
    with pytest.raises(OptionError, match="3 exposure times for 4 frames"):
        fuse_files(pipeline, job, FileOptions(times=(1, 2, 3), force=True))
    other = Pipeline(prior="average", backbone="identity", restore="none", align="none")
    with pytest.raises(OptionError, match="prior=average"):
        fuse_files(other, job, FileOptions(times=TIMES, force=True))
    assert "radiance" not in " ".join(fuse_files(other, job, FileOptions(force=True)).notes)


def test_a_look_a_kind_of_scene_and_one_restored_frame_leave_no_radiance(files, tmp_path):
    pytest.importorskip("OpenEXR")
    job = job_of(files, tmp_path / "fused.exr")
    ways = ({"look": "vivid"}, "vivid"), ({"task": "mff"}, "task=mff"), ({"restore": "2=noise:level=5"}, "restore=2=")
    for choices, said in ways:
        method = fusionkit.Pipeline(**{"restore": "none", "align": "none", **choices})
        with pytest.raises(OptionError, match=said):
            fuse_files(method, job, FileOptions(times=TIMES, force=True))
        assert "radiance" not in " ".join(fuse_files(method, job, FileOptions(force=True)).notes)


def test_frames_that_keep_a_bracket_from_being_merged_are_named(pipeline, files, tmp_path):
    pytest.importorskip("OpenEXR")
    Image.fromarray(np.asarray(load_image(files[1]))).save(files[1])
    notes = fuse_files(pipeline, job_of(files, tmp_path / "fused.exr"), FileOptions()).notes
    assert any("not the radiance: the exposure of 1.jpg is not known; `times`" in note for note in notes)


def test_a_grey_frame_among_coloured_ones_is_refused(pipeline, files, tmp_path):
    pytest.importorskip("OpenEXR")
    picture = load_image(files[2])
    picture.convert("L").save(files[2], exif=picture.getexif())
    with pytest.raises(InputError, match=r"2\.jpg is in colour, or grey, where the others are not"):
        fuse_files(pipeline, job_of(files, tmp_path / "fused.exr"), FileOptions())


def test_times_in_another_order_than_the_frames_are_noted(pipeline):
    pictures = [as_picture(values, f"{i}") for i, values in enumerate(bracket(srgb))]
    fused = fuse_radiance(pipeline, pictures, (TIMES[0], TIMES[2], TIMES[1], TIMES[3]), reference=3)
    assert any(note.startswith("1: darker than a frame of shorter exposure") for note in fused.notes)
    right = fuse_radiance(pipeline, pictures, TIMES, reference=3)
    assert not any("darker" in note for note in right.notes)


def test_equal_times_are_no_bracket(pipeline, files, tmp_path):
    with pytest.raises(OptionError, match="a bracket has several"):
        fuse_files(pipeline, job_of(files, tmp_path / "fused.exr"), FileOptions(times=(1, 1, 1, 1)))


@pytest.mark.parametrize("times", ["0", "1/0", "a", "-1", "1e300"])
def test_times_are_seconds(times):
    with pytest.raises(ValueError, match="seconds above 0"):
        FileOptions(times=times)
