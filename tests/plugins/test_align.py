"""The stage `align`, the warning without it, and transforms in files."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data as skimage_data

from fusionkit.contracts import Sources
from fusionkit.errors import InputError, NoEffect, NotAligned, OptionError, OutputError, SizeMismatch
from fusionkit.images.accept import as_picture
from fusionkit.images.metadata import Metadata
from fusionkit.images.transforms import about_corner, read_transforms, save_transforms
from fusionkit.method.filling import filled
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.homography import resized, warp
from fusionkit.scenes import infrared_visible
from fusionkit.sources import ShotMemory
from fusionkit.writing import write_image
from fusionkit_plugins.stages.align import Align
from harness import load_image, make, psnr, run_cli

PLAIN = {"prior": "average", "backbone": "identity", "device": "cpu"}
MOVE = torch.tensor([[1.0, 0.0, 8.0], [0.0, 1.0, -5.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def pair():
    """An infrared and a visible image, (1, 1 and 3, 192, 256)."""
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible((192, 256), seed=4)]


@pytest.fixture(scope="module")
def misplaced(pair):
    return [warp(pair[0], MOVE)[0], pair[1]]


@pytest.fixture
def files(misplaced, tmp_path):
    for name, image in zip(("ir.png", "vis.png"), misplaced, strict=True):
        write_image(tmp_path / name, image[0].permute(1, 2, 0).numpy(), "8")
    return tmp_path / "ir.png", tmp_path / "vis.png"


def test_a_misplaced_source_is_moved_and_what_is_outside_is_said(pair, misplaced):
    sources = Sources.of(misplaced, reference=1, names=("ir", "vis"))
    moved = make(Align, model="translation").before(sources)
    inner = (..., slice(12, -12), slice(12, -12))
    assert psnr(moved.images[0][inner], pair[0][inner]) > psnr(misplaced[0][inner], pair[0][inner]) + 6
    assert moved.images[1] is sources.images[1]
    assert sources.report.notes[0].startswith("ir aligned to vis (translation): it was 9.")
    filled(moved)
    assert sources.report.notes[1].startswith("ir has no data in ")
    (row,) = sources.report.records["aligned"]
    assert (row["source"], row["reference"], row["size"]) == (1, 2, [256, 192])
    assert row["confidence"] > 0.9
    assert row["left"] < 1
    assert " px left (confidence " in sources.report.notes[0]
    assert row["outside"] == pytest.approx(1 - 248 * 187 / (256 * 192), abs=0.01)


def test_what_lies_right_stays_bit_by_bit(pair):
    sources = Sources.of(pair, reference=1)
    assert make(Align, model="translation").before(sources) is sources


def test_what_lies_nowhere_is_refused_or_kept(pair, generator):
    noise = torch.rand(1, 1, 192, 256, generator=generator)
    sources = Sources.of([noise, pair[1]], reference=1, names=("noise", "vis"))
    with pytest.raises(NotAligned, match=r"noise: not aligned: no confident match with vis .*`align_or_keep=true`"):
        make(Align).before(sources)
    sources = Sources.of([noise, pair[1]], reference=1, names=("noise", "vis"))
    assert make(Align, or_keep=True).before(sources) is sources
    (note,) = sources.report.notes
    assert note.startswith("noise: not aligned: no confident match with vis")
    assert sources.report.records["aligned"][0]["declined"]


def test_a_grey_source_in_three_channels_stays_grey(misplaced):
    sources = Sources.of([misplaced[0].expand(-1, 3, -1, -1), misplaced[1]], reference=1)
    moved = make(Align, model="translation").before(sources).images[0]
    assert torch.allclose(moved[:, 0], moved[:, 2], atol=1e-6)


def test_each_image_of_a_batch_by_itself(pair, misplaced):
    both = [torch.cat([a, b]) for a, b in zip(pair, misplaced, strict=True)]
    moved = make(Align, model="translation").before(Sources.of(both, reference=1)).images[0]
    assert torch.equal(moved[:1], pair[0])
    alone = make(Align, model="translation").before(Sources.of(misplaced, reference=1)).images[0]
    assert torch.allclose(moved[1:], alone, atol=1e-5)


def test_the_warning_comes_without_being_asked_for(pair, misplaced):
    notes = Pipeline(**PLAIN).run(misplaced, names=("ir", "vis")).notes
    assert "ir looks 9 px off vis (8 px left, 5 px down); `align=affine` corrects this" in notes
    for images, align in ((pair, "check"), (misplaced, "none"), (misplaced, "translation")):
        assert not any(
            "px off vis (" in n for n in Pipeline(align=align, **PLAIN).run(images, names=("ir", "vis")).notes
        )


def test_no_advice_where_it_would_not_work(pair, misplaced, monkeypatch):
    """A shift that agrees best, but that no registration confirms, is not told."""
    narrow = warp(pair[0], matrix(0.6, right=20))[0]
    notes = Pipeline(**PLAIN).run([narrow, pair[1]], names=("ir", "vis")).notes
    assert not any("px off" in note for note in notes)


def matrix(scale, right=0.0, down=0.0):
    return torch.tensor([[scale, 0, right], [0, scale, down], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("how", [{}, {"fov": 0.6}, {"fov": (0.6, 1.0), "align": "rigid"}, {"fov": (1.2, 2.0)}])
def test_another_size_and_view_need_no_resizing(pair, how):
    inner = matrix(0.6 * 256 / 160, right=-12, down=6)  # from the small image, which sees 0.6, to the whole one
    small = warp(pair[0], inner, (120, 160))[0]
    done = Pipeline(**{"align": "affine", **PLAIN, **how}).run([small, pair[1]], names=("ir", "vis"))
    assert done.image.shape == pair[1].shape
    (row,) = done.found["aligned"]
    assert (row["size"], row["given"]) == ([256, 192], [160, 120])
    x, y = (256 - 1) / 2 - 12, (192 - 1) / 2 + 6  # what the small image's middle shows
    seen = np.array(row["matrix"]) @ [x, y, 1]
    assert seen[:2] / seen[2] == pytest.approx([(160 - 1) / 2, (120 - 1) / 2], abs=1)
    assert any("sees 0.6" in note and "of its field of view" in note for note in done.notes)
    assert row["outside"] == pytest.approx(1 - 0.36, abs=0.03)


def test_without_alignment_other_sizes_are_refused(pair):
    small = torch.nn.functional.interpolate(pair[0], (96, 128), mode="area")
    with pytest.raises(SizeMismatch, match=r"`resize=reference` resizes .* `align=affine` finds where they lie"):
        Pipeline(**PLAIN).run([small, pair[1]])
    noise = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(1))
    with pytest.raises(SizeMismatch):
        Pipeline(align="affine", align_or_keep=True, **PLAIN).run([noise, pair[1]])


@pytest.mark.parametrize(
    ("choices", "error", "match"),
    [
        ({"fov": 0.7}, NoEffect, "`fov=0.7` has no effect without `align` or `transform`"),
        ({"align_or_keep": True}, NoEffect, "`align_or_keep=true` has no effect without"),
        ({"crop": "common", "align": "check"}, NoEffect, "`crop=common` has no effect without"),
        ({"fov": 0.0, "align": "affine"}, OptionError, "fov"),
        ({"fov": (1.0, 2.0, 3.0), "align": "affine"}, OptionError, "3 fields of view for 2 sources"),
    ],
)
def test_what_has_no_effect_is_refused(pair, choices, error, match):
    with pytest.raises(error, match=match):
        Pipeline(**choices, **PLAIN).run(pair)


def test_a_pair_has_its_own_rest_on_top_of_a_transform(pair, misplaced, generator, tmp_path):
    path = tmp_path / "rig.json"
    save_transforms(
        path, [{**ROW, "size": [256, 192], "given": [256, 192], "matrix": [[1, 0, -5], [0, 1, 3], [0, 0, 1]]}]
    )
    sources = Sources.of(misplaced, reference=1, names=("ir", "vis"))
    moved = make(Align, transform=str(path), rest=True).before(sources)
    (row,) = sources.report.records["aligned"]
    assert np.array(row["matrix"])[:2, 2] == pytest.approx([-8, 5], abs=0.7)
    assert row["rest"] == pytest.approx(13**0.5, abs=0.7)
    assert "ir: a rest of 3." in sources.report.notes[1]
    inner = (..., slice(12, -12), slice(12, -12))
    assert psnr(moved.images[0][inner], pair[0][inner]) > psnr(misplaced[0][inner], pair[0][inner]) + 4
    noise = Sources.of([torch.rand(1, 1, 192, 256, generator=generator), pair[1]], reference=1)
    make(Align, transform=str(path), rest=True).before(noise)
    assert noise.report.records["aligned"][0]["matrix"] == [[1, 0, -5], [0, 1, 3], [0, 0, 1]]
    assert "no confident match" in noise.report.notes[1]
    with pytest.raises(NoEffect, match="`rest=true` has no effect without `transform`"):
        Pipeline(align="affine", rest=True, **PLAIN)


def test_options_of_the_search_are_refused_beside_a_transform(pair, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1,0,3\n0,1,2\n")
    for option in ({"fov": 0.7}, {"align_or_keep": True}):
        with pytest.raises(NoEffect, match="has no effect beside `transform`"):
            Pipeline(transform=str(path), **option, **PLAIN)


@pytest.mark.parametrize("crop", ["fill", "reference", "common"])
def test_what_is_outside(pair, misplaced, crop):
    done = Pipeline(align="translation", crop=crop, **PLAIN).run(misplaced)
    reference, image = pair[1], done.image
    if crop == "common":
        assert image.shape[-2:] == (187, 248)
        assert done.cut == (slice(5, 192), slice(0, 248)) or done.cut == (slice(0, 187), slice(8, 256))
        inner = pair[1][(..., *done.cut)]
        assert (
            image - (inner + warp(misplaced[0], MOVE.new_tensor([[1, 0, -8], [0, 1, 5]]))[0][(..., *done.cut)]) / 2
        ).abs().mean() < 0.02
        return
    assert image.shape == reference.shape
    inside = warp(misplaced[0], MOVE.new_tensor([[1, 0, -8], [0, 1, 5]]))[1].expand_as(image)
    far = (reference - image)[~inside].abs().mean()
    assert (far < 1e-3) == (crop == "reference")


def test_frames_of_a_video_keep_their_size(misplaced):
    stage = make(Align, model="translation", crop="common").remembering(ShotMemory())
    with pytest.raises(OptionError, match="frames of a video keep their size"):
        stage.before(Sources.of(misplaced, reference=1))


def test_a_map_keeps_its_places_when_it_is_cut():
    """Tie points and the matrix of a GeoTIFF, against the pixel that they are of."""
    tags = (
        (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0)),
        (34264, 12, 16, (2.0, 0.5, 0, 500.0, -0.5, -2.0, 0, 900.0, *[0.0] * 7, 1.0)),
    )
    ties, model = (np.array(tag[3]) for tag in Metadata(geo=tags).moved(30, 20).geo)
    assert ties.tolist() == [-30, -20, 0, 500, 900, 0]
    assert (model.reshape(4, 4) @ [1, 2, 0, 1]).tolist() == (
        np.array(tags[1][3]).reshape(4, 4) @ [31, 22, 0, 1]
    ).tolist()


def test_nothing_is_smeared_far_from_a_narrow_source(pair, tmp_path):
    """Far outside, what is filled in is the reference."""
    small = warp(pair[0], matrix(0.4))[0]
    (tmp_path / "t.csv").write_text(f"2.5, 0, {-1.5 * 255 / 2}\n0, 2.5, {-1.5 * 191 / 2}\n")
    sources = Sources.of([small, pair[1]], reference=1)
    moved = filled(make(Align, transform=str(tmp_path / "t.csv")).before(sources)).images[0]
    assert (moved - pair[0])[..., 90:102, 120:136].abs().mean() < 0.02
    assert (moved - sources.reference_luma)[..., :12, :12].abs().max() < 2e-3


def test_a_white_border_does_not_fill(pair):
    source = pair[0].clone()
    source[..., -30:] = 1.0
    path_free = make(Align, model="translation")
    sources = Sources.of([warp(source, torch.tensor([[1.0, 0, 12], [0, 1, 0]]))[0], pair[1]], reference=1)
    moved = filled(path_free.before(sources)).images[0]
    outside = moved[..., :, -6:] if moved[..., :, -6:].mean() < moved[..., :, :6].mean() else moved[..., :, :6]
    assert (outside == 1).float().mean() < 0.05


def test_large_pictures_are_moved_row_by_row(pair, misplaced, monkeypatch):
    monkeypatch.setattr("fusionkit.method.pipeline.WHOLE_PIXELS", 1000)
    files = [as_picture(image[0].permute(1, 2, 0).numpy(), "x") for image in misplaced]
    lazily = Pipeline(align="translation", **PLAIN).fuse_pictures(files).picture.pixels
    monkeypatch.undo()
    assert np.allclose(lazily, Pipeline(align="translation", **PLAIN).fuse_pictures(files).picture.pixels, atol=1e-5)


def test_a_rig_is_aligned_once(files, tmp_path):
    transform = tmp_path / "rig.json"
    done = run_cli("run", "--align", "translation", "--save-transform", transform, *files, "-o", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "aligned to vis.png (translation)" in done.stderr
    done = run_cli("run", "--transform", transform, *files, "-o", tmp_path / "b.png")
    assert f"ir.png moved as {transform} says" in done.stderr
    assert np.array_equal(load_image(tmp_path / "a.png"), load_image(tmp_path / "b.png"))
    row = json.loads((tmp_path / "a.manifest.jsonl").read_text())
    assert row["aligned"][0]["matrix"] == json.loads(transform.read_text())["transforms"][0]["matrix"]
    done = run_cli("run", "--align", "rigid", "--save-transform", transform, *files, "-o", tmp_path / "c.png")
    assert (done.returncode, (tmp_path / "c.png").exists()) == (2, False)
    assert "exists already; --force overwrites it" in done.stderr
    done = run_cli("run", "--save-transform", tmp_path / "none.json", *files, "-o", tmp_path / "d.png")
    assert (done.returncode, (tmp_path / "d.png").exists()) == (2, False)
    assert "has no effect: nothing is aligned; add --align affine" in done.stderr
    still, found = (files[1], shutil.copy(files[1], tmp_path / "same.png")), tmp_path / "none.json"
    done = run_cli("run", "--align", "translation", "--save-transform", found, *still, "-o", tmp_path / "e.png")
    assert (done.returncode, (tmp_path / "e.png").exists()) == (2, False)
    assert "no source was moved" in done.stderr


ROW = {
    "source": 1,
    "reference": 2,
    "size": [200, 100],
    "given": [100, 50],
    "matrix": [[0.5, 0.0, 4.0], [0.0, 0.5, -2.0], [0.0, 0.0, 1.0]],
}


def test_transforms_fit_other_resolutions_but_no_other_shape_or_reference(tmp_path):
    path = tmp_path / "t.json"
    save_transforms(path, [ROW, {**ROW, "source": 3, "matrix": None}])
    found = read_transforms(path)
    same = found.matrix(0, 1, (100, 200), (50, 100))
    at = same @ [10 - 199 / 2, 20 - 99 / 2, 1]  # pixel (10, 20) of the reference
    assert at[:2] == pytest.approx([0.5 * 10 + 4 - 99 / 2, 0.5 * 20 - 2 - 49 / 2])
    assert found.matrix(0, 1, (200, 400), (50, 100))[:, 2] == pytest.approx(same[:, 2])
    assert found.matrix(0, 1, (100, 200), (100, 200))[:2] == pytest.approx(2 * same[:2])
    assert found.matrix(2, 1, (100, 200), (50, 100)) is None
    with pytest.raises(InputError, match=r"found on images of 200x100, these are 300x200"):
        found.matrix(0, 1, (200, 300), (50, 100))
    with pytest.raises(InputError, match="name it with `reference=2`"):
        found.matrix(1, 0, (100, 200), (50, 100))
    with pytest.raises(OutputError, match="no source was moved"):
        save_transforms(path, [])


@pytest.mark.parametrize("suffix", [".json", ".csv", ".npy", ".txt"])
def test_a_homography_of_opencv_moves_a_source(pair, tmp_path, suffix):
    """A bare matrix takes pixels of the reference, from the upper left one, to pixels of the source."""
    path = tmp_path / f"h{suffix}"
    homography = np.array([[1.1, 0.05, -9.0], [-0.03, 0.95, 6.0], [1e-4, -2e-4, 1.0]])
    if suffix == ".npy":
        np.save(path, homography)
    elif suffix == ".json":
        path.write_text(json.dumps(homography.tolist()))
    else:
        path.write_text("\n".join((", " if suffix == ".csv" else " ").join(map(str, row)) for row in homography))
    image = pair[1].mean(1, keepdim=True)
    moved = make(Align, transform=str(path), crop="reference").before(Sources.of([image, pair[1]], reference=1))
    x, y = 120, 90
    u, v, w = homography @ [x, y, 1]
    u, v = u / w, v / w
    at = torch.tensor([[[[(2 * u + 1) / 256 - 1, (2 * v + 1) / 192 - 1]]]], dtype=torch.float32)
    wanted = torch.nn.functional.grid_sample(image, at, mode="bicubic", align_corners=False)
    assert moved.images[0][0, 0, y, x] == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".txt"])
def test_one_matrix_alone_is_saved_and_read_back(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    save_transforms(path, [ROW])
    save_transforms(tmp_path / "t.json", [ROW])
    whole = read_transforms(tmp_path / "t.json").matrix(0, 1, (100, 200), (50, 100))
    assert read_transforms(path).matrix(0, 1, (100, 200), (50, 100)) == pytest.approx(whole)
    with pytest.raises(OutputError, match="2 sources were moved"):
        save_transforms(path, [ROW, {**ROW, "source": 3}])


def test_files_of_earlier_versions_are_read_from_the_centre(tmp_path):
    path = tmp_path / "t.json"
    content = {"reference": 2, "size": [200, 100], "transforms": [{"source": 1, "matrix": [[1, 0, 4], [0, 1, -2]]}]}
    path.write_text(json.dumps(content))
    assert read_transforms(path).matrix(0, 1, (200, 400), (200, 400)).tolist() == [[1, 0, 8], [0, 1, -4], [0, 0, 1]]


def test_one_matrix_is_for_two_sources(pair, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1 0 3\n0 1 2\n")
    with pytest.raises(InputError, match="holds one matrix, which is for two sources, not 3"):
        make(Align, transform=str(path)).before(Sources.of([pair[0], pair[0], pair[1]]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"reference": 1}',
        '{"reference":1,"size":[2,2],"transforms":[{"source":1,"matrix":[[NaN,0,0],[0,1,0]]}]}',
        '{"reference":1,"size":[2,2],"transforms":[{"source":1,"matrix":[[1,0,0],[0,1,0],[0,0,1]]}]}',
        "[[1, 0, 0], [1, 0, 0], [0, 0, 1]]",
        "[[1, 0], [0, 1]]",
        "7",
    ],
)
def test_what_is_no_file_of_transforms_is_one_line(text, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no file of transforms") as error:
        read_transforms(path)
    assert "\n" not in str(error.value)
    with pytest.raises((InputError, OptionError), match=r"missing\.json"):
        Pipeline(transform=str(tmp_path / "missing.json"), **PLAIN)


def with_focal_length(image, focal, name):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[41989] = focal
    return replace(as_picture(image[0].permute(1, 2, 0).numpy(), name), metadata=Metadata(exif.tobytes()))


def test_focal_lengths_of_the_files_are_where_the_search_begins(pair):
    """A view of 0.32 is beyond what is sought without a hint, and a wrong hint does no harm."""
    large = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible((384, 512), seed=4)]
    narrow = warp(large[0], matrix(0.32 * 512 / 160, right=13, down=42), (120, 160))[0]
    pipeline = Pipeline(align="affine", **PLAIN)
    files = [with_focal_length(narrow, 75, "ir"), with_focal_length(large[1], 24, "vis")]
    assert files[0].view / files[1].view == pytest.approx(0.32)
    (row,) = pipeline.fuse_pictures(files).facts.found["aligned"]
    assert row["confidence"] > 0.8
    with pytest.raises(NotAligned):
        pipeline.fuse_pictures([as_picture(x[0].permute(1, 2, 0).numpy(), "x") for x in (narrow, large[1])])
    near = warp(pair[0], matrix(0.7 * 256 / 160, right=3, down=-2), (120, 160))[0]
    wrong = [with_focal_length(near, 240, "ir"), with_focal_length(pair[1], 24, "vis")]
    assert pipeline.fuse_pictures(wrong).facts.found["aligned"][0]["confidence"] > 0.8


@pytest.mark.parametrize("focal", [0, "many"])
def test_a_focal_length_that_is_none_is_passed_over(pair, focal):
    picture = with_focal_length(pair[0], 50, "ir")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[41989] = focal
    assert picture.view is not None
    assert replace(picture, metadata=Metadata(exif.tobytes())).view is None
    assert replace(picture, metadata=Metadata(b"damaged")).view is None


def test_a_surveyors_folder_is_fused_by_one_command(tmp_path):
    """One folder, thermal pictures of 16 bits with 0.7 of the view, 3 degrees and 20 pixels off, GPS in the others."""
    shots = tmp_path / "shots"
    shots.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (48.0, 8.0, 14.5)
    scale, turn = 0.7 * 512 / 320, math.radians(3)  # from the thermal picture to the visible one
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    move = torch.tensor([[cos, -sin, 16.0], [sin, cos, -12.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    for k in (1, 2):
        ir, visible = infrared_visible((384, 512), seed=k)
        thermal = warp(torch.from_numpy(ir).float()[None, ..., 0][None], move, (240, 320))[0][0, 0].numpy()
        tifffile.imwrite(shots / f"DJI_{k:04}_T.tif", (7000 + 900 * thermal).astype(np.uint16))
        pixels = (np.asarray(visible) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(shots / f"DJI_{k:04}_V.jpg", quality=95, exif=exif)
    command = ("run", "--pairs", "shots/*_T.tif", "shots/*_V.jpg", "--align", "affine", "-o", "fused")
    done = run_cli(*command, "--prior", "average", "--backbone", "identity", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "fused/manifest.jsonl").read_text().splitlines()]
    found = [row["aligned"][0] for row in rows if "aligned" in row]
    assert len(found) == 2
    x, y = np.meshgrid(np.linspace(60, 260, 5), np.linspace(40, 200, 5))
    own = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])  # pixels of the thermal picture
    wanted = np.linalg.inv(about_corner(move.inverse().numpy(), (384, 512), (240, 320))) @ own
    for row in found:
        lies = np.linalg.inv(np.array(row["matrix"])) @ own
        assert np.linalg.norm((lies / lies[2] - wanted / wanted[2])[:2], axis=0).mean() < 2
    results = sorted(path for path in (tmp_path / "fused").iterdir() if path.suffix in (".png", ".jpg", ".tif"))
    assert len(results) == 2
    for path in results:
        with Image.open(path) as image:
            assert image.size == (512, 384)
            assert image.getexif().get_ifd(0x8825)[2] == (48.0, 8.0, 14.5)


def test_dense_moves_what_stands_nearer_and_keeps_out_what_it_hides():
    visible, near = (
        [(torch.from_numpy(x).float()[None, None] / 255)] for x in (skimage_data.brick(), skimage_data.coins())
    )
    wall, coins = (resized(image, (240, 320)) for (image,) in (visible, near))
    mask = torch.zeros_like(wall)
    mask[..., 60:180, 90:230] = 1
    reference = torch.lerp(wall, coins, mask)
    source = 1 - 0.7 * torch.lerp(wall, coins.roll(14, -1), mask.roll(14, -1))
    sources = Sources.of([source, reference], reference=1, names=("ir", "vis"), to_luma=lambda image: image)
    moved = make(Align, model="dense").before(sources)
    inner = (..., slice(70, 170), slice(100, 200))
    assert (
        psnr(moved.images[0][inner], (1 - 0.7 * reference)[inner])
        > psnr(source[inner], (1 - 0.7 * reference)[inner]) + 6
    )
    (row,) = sources.report.records["aligned"]
    assert row["field"]["longest"] == pytest.approx(14, abs=2)
    assert any(note.startswith("ir shifted part by part by up to 1") for note in sources.report.notes)
    assert not moved.valid[0][..., 60:180, 230:244].all()
    with pytest.raises(OutputError, match="is no matrix"):
        save_transforms(Path("rig.json"), sources.report.records["aligned"])
