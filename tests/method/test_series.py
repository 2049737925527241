"""Many frames: one by one, in memory that does not grow with their number, as if all had been there at once."""

import signal
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import job_of, plan_images
from fusionkit.batch.run import fuse_files
from fusionkit.contracts import Prior, Streaming
from fusionkit.errors import InputError, OutputError, SizeMismatch
from fusionkit.images.accept import as_picture
from fusionkit.images.metadata import UNSTATED
from fusionkit.method.checkpoint import Checkpoint, between_frames
from fusionkit.method.frames import Series
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.series import AT_ONCE, fuse_series
from fusionkit.reading import read_image
from fusionkit_priors.decision import DecisionNetConfig, Exposed

PHOTO = data.coffee()[60:180, 100:280]


def frames(count=6, seed=0):
    """Pictures of one scene under noise."""
    generator = np.random.default_rng(seed)
    noisy = (PHOTO + generator.normal(0, 12, (count, *PHOTO.shape))).clip(0, 255).astype(np.uint8)
    return [as_picture(values, f"frame {i + 1}") for i, values in enumerate(noisy)]


def bracket(count=5, stops=1.5):
    """A bracket of sRGB frames, darkest first."""
    light = (PHOTO / 255) ** 2.2
    steps = [2.0 ** (stops * (i - count // 2)) for i in range(count)]
    return [as_picture(((light * s).clip(0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8), f"x{s:g}") for s in steps]


def method(**choices):
    return Pipeline(**{"backbone": "identity", "restore": "none", "align": "none", "device": "cpu", **choices})


class TestFrameByFrame:
    def test_the_average_is_that_of_numpy(self):
        fused = method(prior="average").fuse_pictures(frames()).picture.pixels
        np.testing.assert_allclose(fused, np.mean([p.pixels for p in frames()], 0), atol=2e-6)

    def test_each_is_read_once_a_pass_and_no_two_more_are_held(self):
        pictures, held, most, read = frames(9), [], [], []

        def take(i):
            values = pictures[i].values.copy()
            held.append(weakref.ref(values))
            most.append(sum(one() is not None for one in held))
            read.append(i)
            return replace(pictures[i], values=values)

        method(prior="average").fuse_pictures(Series([p.name for p in pictures], take, lambda i: UNSTATED))
        assert sorted(read[-8:]) == list(range(8))  # the ninth is the reference, which is kept
        assert max(most) <= 5  # the reference, one that is fused, the next two, one on its way out

    def test_a_frame_of_another_size_that_is_checked_is_refused_or_resized(self):
        pictures = frames(6)
        pictures[2] = as_picture(pictures[2].values[::2, ::2].copy(), "frame 3")
        with pytest.raises(SizeMismatch, match="frame 3 is 90x60"):
            method(prior="average", align="check").fuse_pictures(pictures)
        fused = method(prior="average", align="check", resize="reference").fuse_pictures(pictures)
        assert fused.picture.size == (180, 120)

    def test_few_are_fused_at_once_and_bytes_stay(self):
        class Refuses(Prior):
            reads_x0 = False

            def passes(self, frames):
                raise AssertionError("asked for a few sources")

            def correct(self, x0, sources, state, sigma):
                return torch.stack(sources.luma).mean(0), None

        method(prior=Refuses()).fuse_pictures(frames(AT_ONCE))
        with pytest.raises(AssertionError, match="asked"):
            method(prior=Refuses()).fuse_pictures(frames(AT_ONCE + 1))

    @pytest.mark.parametrize(
        "choices",
        [{"prior": "laplacian"}, {"prior": "average", "color": {"name": "ycbcr", "chroma_from": 2}}],
        ids=["a prior without passes", "the colour of one source"],
    )
    def test_what_needs_all_frames_gets_them(self, choices):
        pipeline = method(**choices)
        assert fuse_series(pipeline, frames()) is None
        assert pipeline.fuse_pictures(frames()).picture.size == frames()[0].size

    def test_where_all_do_not_fit_one_line_says_so(self):
        def check():
            raise OutputError("6 images need more than is free")

        pictures = frames()
        series = Series([p.name for p in pictures], pictures.__getitem__, lambda i: UNSTATED, check)
        with pytest.raises(OutputError, match="more than is free"):
            method(prior="laplacian").fuse_pictures(series)
        method(prior="average").fuse_pictures(series)

    def test_stages_act_on_each_frame_beside_the_reference(self):
        pictures = frames()
        pictures[2] = replace(pictures[2], values=pictures[2].values[::2, ::2])
        with pytest.raises(SizeMismatch, match="frame 3 is 90x60 but frame 6 is 180x120"):
            method(prior="average").fuse_pictures(pictures)
        fused = method(prior="average", resize="reference").fuse_pictures(pictures)
        assert any("frame 3 resized from 90x60 to 180x120" in note for note in fused.notes)

    def test_a_place_without_data_shows_the_reference(self):
        pictures = frames()
        valid = np.ones(PHOTO.shape[:2], bool)
        valid[:, :20] = False
        pictures[0] = replace(pictures[0], values=np.where(valid[..., None], pictures[0].values, 0), valid=valid)
        fused = method(prior="max").fuse_pictures(pictures).picture.pixels
        clean = method(prior="max").fuse_pictures(frames()).picture.pixels
        assert np.abs(fused[:, 25:] - clean[:, 25:]).max() < 0.02
        assert np.abs(fused[:, :15] - clean[:, :15]).mean() < 0.05

    def test_sixteen_bits_of_one_quantity_have_one_range(self):
        deep = [
            replace(
                p, values=(p.values.astype(np.uint16) * (i + 2)), depth="16", span=(0.0, 255.0 * (i + 2)), measured=True
            )
            for i, p in enumerate(bracket())
        ]
        fused = method(task="mef").fuse_pictures(deep)
        assert {tuple(span) for span in fused.found["ranges"]} == {tuple(fused.found["ranges"][0])}

    def test_grey_frames_stay_grey_and_gray_makes_them_so(self):
        grey = [replace(p, values=p.values[..., :1]) for p in frames()]
        assert method(prior="average").fuse_pictures(grey).picture.channels == 1
        assert method(prior="average", color="gray").fuse_pictures(frames()).picture.channels == 1

    def test_a_prior_of_accumulate_alone_corrects_too(self):
        class Sum(Streaming):
            def passes(self, frames):
                return 1

            def begin(self, frames, state, turn):
                return {"sum": torch.zeros(1, 1, *frames.size), "count": len(frames)}

            def accumulate(self, state, frame, turn):
                return {**state, "sum": state["sum"] + frame.planes}

            def conclude(self, frames, state):
                return state["sum"] / state["count"]

        two, many = method(prior=Sum()).fuse_pictures(frames(2)), method(prior=Sum()).fuse_pictures(frames())
        plain = method(prior="average").fuse_pictures(frames(2))
        np.testing.assert_allclose(two.picture.pixels, plain.picture.pixels, atol=2e-6)
        np.testing.assert_allclose(many.picture.pixels, np.mean([p.pixels for p in frames()], 0), atol=2e-6)


class TestBracket:
    def test_the_network_sees_frames_one_after_another_as_together(self):
        torch.manual_seed(0)
        network = Exposed(DecisionNetConfig(widths=(8, 12)))
        torch.nn.init.normal_(network.last.weight, std=0.2)
        lumas = [torch.rand(1, 1, 37, 50) for _ in range(5)]
        with torch.no_grad():
            torch.testing.assert_close(network.each(lumas), network(lumas), atol=1 / 255, rtol=0)

    @pytest.mark.parametrize("size", [1, 9])
    def test_many_frames_look_as_few_of_them_do(self, size):
        """Tone, colour and local contrast are those of the prior that has all frames; also on a reduced copy."""
        pictures = [replace(p, values=p.values.repeat(size, 0).repeat(size, 1)) for p in bracket(3, 2.5)]
        whole = method(task="mef").fuse_pictures(pictures).picture.pixels
        streamed = fuse_series(method(task="mef"), pictures).picture.pixels
        assert np.abs(whole - streamed).mean() < 4 / 255  # colours are mixed by the weights, too
        assert np.abs((whole - streamed) @ np.float32([0.299, 0.587, 0.114])).mean() < 1 / 255
        assert abs(float(np.median(whole) - np.median(streamed))) < 1 / 255
        colour = [float((p.max(2) - p.min(2)).mean()) for p in (whole, streamed)]
        assert 0.9 < colour[1] / colour[0] < 1.1
        edges = [float(np.abs(np.diff(p.mean(2), axis=1)).mean()) for p in (whole, streamed)]
        assert 0.97 < edges[1] / edges[0] < 1.03

    def test_nothing_leaves_the_range_of_the_frames(self):
        lumas = np.stack([p.pixels @ np.float32([0.299, 0.587, 0.114]) for p in bracket()])
        fused = fuse_series(method(task="mef", color="gray"), bracket()).picture.pixels[..., 0]
        assert (fused >= lumas.min(0) - 1e-5).all()
        assert (fused <= lumas.max(0) + 1e-5).all()

    def test_a_repeated_m_step_needs_all_frames(self):
        assert fuse_series(method(task="mef", prior_options={"iterations": 2}), bracket()) is None


class TestCheckpoint:
    @pytest.fixture
    def kept(self, tmp_path):
        return Checkpoint(tmp_path / ".fused.png.frames", "method")

    @pytest.mark.parametrize(("prior", "stop"), [("average", 4), ("exposure", 8)])
    def test_a_series_goes_on_at_its_next_frame(self, kept, prior, stop, monkeypatch):
        monkeypatch.setattr("fusionkit.method.checkpoint.EVERY", 0.0)
        pictures, reads = bracket(), []

        def told(done, count):
            if done == stop:
                raise KeyboardInterrupt

        def read(i):
            reads.append(i)
            return pictures[i]

        whole = fuse_series(method(prior=prior), pictures).picture.values
        with pytest.raises(KeyboardInterrupt):
            fuse_series(method(prior=prior), pictures, progress=told, checkpoint=kept)
        assert kept.path.exists()
        series = Series([p.name for p in pictures], read, lambda i: UNSTATED)
        again = fuse_series(method(prior=prior), series, checkpoint=kept)
        assert np.array_equal(again.picture.values, whole)
        assert any("continued at frame" in note for note in again.notes)
        assert not kept.path.exists()

    def test_the_state_of_another_method_is_left(self, kept, tmp_path):
        kept.save(0, 3, {"sum": torch.zeros(2)}, now=True)
        assert kept.load()[:2] == (0, 3)
        assert Checkpoint(kept.path, "another").load() is None
        kept.path.write_bytes(kept.path.read_bytes()[:50])
        assert kept.load() is None

    def test_ctrl_c_waits_for_the_end_of_a_frame(self):
        done = []

        def frame():
            with between_frames() as came:
                signal.raise_signal(signal.SIGINT)
                done.append(list(came))

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        try:
            with pytest.raises(KeyboardInterrupt):
                frame()
        finally:
            signal.signal(signal.SIGINT, before)
        assert done == [[signal.SIGINT]]


def test_many_paths_are_read_one_by_one_from_python(tmp_path, monkeypatch):
    for i, picture in enumerate(frames(6)):
        Image.fromarray(picture.values).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("fusionkit.method.pipeline.as_source", None)
    fused = method(prior="average").fuse(*sorted(tmp_path.iterdir()))
    mean = np.mean([p.values for p in frames(6)], 0)
    assert fused.dtype == np.uint8
    assert np.abs(fused - mean).max() <= 0.51


def test_frames_that_do_not_fit_at_once_are_refused_only_where_all_are_needed(tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for file, picture in zip(files, frames(6), strict=True):
        Image.fromarray(picture.values).save(file)
    monkeypatch.setattr("fusionkit.batch.run.free_memory", lambda: 1000)
    job = job_of(files, tmp_path / "fused.png")
    with pytest.raises(
        OutputError, match=r"6 images of up to .*than laplacian, frames of stacks and brackets go one by"
    ):
        fuse_files(method(prior="laplacian"), job, FileOptions())
    assert fuse_files(method(prior="average"), job, FileOptions()).status == "done"


def test_a_folder_is_a_series(tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    for i, picture in enumerate(frames(6)):
        Image.fromarray(picture.values).save(folder / f"shot{i + 8}.png")
    (folder / "notes.txt").write_text("none")
    plan = plan_images([folder], None)
    assert [p.stem for p in plan.jobs[0].sources] == [f"shot{i}" for i in range(8, 14)]
    assert plan.jobs[0].output == tmp_path / "shots-fused.png"
    assert "1 text" in plan.left_out[0]
    told = []
    outcome = fuse_files(method(prior="average"), plan.jobs[0], FileOptions(), progress=lambda *a: told.append(a))
    assert told == [(i, 6) for i in range(1, 7)]
    assert outcome.record["frames"] == {"count": 6, "scene": "focus"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shots", "shots-fused.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="this folder holds none"):
        plan_images([tmp_path / "empty"], None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".exr"])
def test_depth_is_saved_in_what_the_format_holds(tmp_path, suffix):
    pytest.importorskip("OpenEXR")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, frames(3), strict=True):
        Image.fromarray(picture.values[:64, :64]).save(path)
    options = FileOptions(save_depth=str(tmp_path / f"depth{suffix}"))
    stack = method(prior="em_tv", prior_options={"evidence": "focus"})
    fuse_files(stack, job_of(paths, tmp_path / "fused.png"), options)
    assert read_image(tmp_path / f"depth{suffix}").depth == {".png": "16", ".jpg": "8", ".exr": "float"}[suffix]
