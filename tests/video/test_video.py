"""Video: frames by their times, shots, segments, what is kept of the reference."""

import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="video needs PyAV")
from fusionkit.cli.voice import Reporter  # noqa: E402
from fusionkit.engines.processes import ProcessEngine  # noqa: E402
from fusionkit.errors import ImageReadError, InputError, OutputError, SizeMismatch  # noqa: E402
from fusionkit.method.pipeline import Pipeline  # noqa: E402
from fusionkit.scenes import infrared_visible, multi_focus  # noqa: E402
from fusionkit.storage.outcome import Outcome, Stopped, lost  # noqa: E402
from fusionkit.video.options import VideoOptions, address, is_video  # noqa: E402
from fusionkit.video.plan import Segment, plan_video  # noqa: E402
from fusionkit.video.run import _lost, fuse_video  # noqa: E402
from fusionkit.video.streams import Stream  # noqa: E402
from harness import run_cli  # noqa: E402

SIZE = 64, 96  # of frames, cut from a larger scene that moves


def frames(scene, count, rate, deep=False):
    height, width = SIZE
    for k in range(count):
        x, y = (int(speed * k / rate) % 30 for speed in (12, 6))
        part = scene[y : y + height, x : x + width]
        if deep:
            yield (27_000 + 4000 * part[:, :, 0]).astype(np.uint16)
        else:
            yield (255 * np.broadcast_to(part, (height, width, 3)) + 0.5).astype(np.uint8)


def write(path, images, rate, *, codec="libx264", form="yuv420p", sound=False, first=0):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *SIZE, form
        heard = container.add_stream("aac", rate=44_100) if sound else None
        container.metadata["title"] = "a made street"
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="gray16le" if image.ndim == 2 else "rgb24")
            frame.pts, frame.time_base = k + first, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard:
            for k in range(40):
                samples = (0.1 * np.sin(np.arange(1024) / 20)).astype(np.float32)[None]
                sample = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                sample.rate, sample.pts = 44_100, 1024 * k
                container.mux(heard.encode(sample))
            container.mux(heard.encode())
    return path


def read(path, form="rgb24"):
    with av.open(str(path)) as container:
        decoded = [(f.time, f.to_ndarray(format=form)) for f in container.decode(video=0)]
    return [t for t, _ in decoded], np.stack([image for _, image in decoded])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    infrared, visible = infrared_visible((100, 130), seed=1)
    return (
        write(folder / "ir.mp4", frames(infrared, 20, 20), 20),
        write(folder / "vis.mp4", frames(visible, 30, 30), 30, sound=True),
    )


@pytest.fixture
def pipeline():
    return Pipeline(device="cpu", restore="none")


def fuse(pipeline, sources, output, engine=None, force=False, **options):
    video = plan_video(pipeline, sources, output, VideoOptions(**options), force)
    return video, list(fuse_video(pipeline, video, engine, force=force))


def test_frames_of_different_rates_follow_the_reference_with_its_sound_and_title(pair, pipeline, tmp_path):
    video, outcomes = fuse(pipeline, pair, tmp_path / "out.mp4")
    assert video.reference == 1  # the one in colour
    assert [o.status for o in outcomes] == ["done"]
    times, images = read(tmp_path / "out.mp4")
    assert np.allclose(times, np.arange(30) / 30, atol=1e-3)
    assert images.shape == (30, *SIZE, 3)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "a made street"
        assert [s.codec_context.name for s in container.streams.audio] == ["aac"]
    assert not video.folder.exists()
    near = pipeline.fuse(*(read(path)[1][12 if path is pair[1] else 8] for path in pair))
    assert float(np.abs(images[12].astype(int) - near).mean()) < 4  # h264, and averages of the frames before


def test_one_frame_is_a_segment(pipeline, tmp_path):
    sources = [
        write(tmp_path / f"{name}.mp4", frames(np.full((100, 130, 3), level), 1, 20), 20)
        for name, level in (("a", 0.2), ("b", 0.6))
    ]
    video, outcomes = fuse(pipeline, sources, tmp_path / "out.mkv", codec="ffv1")
    assert [s.number for s in video.segments] == [0]
    assert [o.status for o in outcomes] == ["done"]
    assert read(tmp_path / "out.mkv")[1].shape == (1, *SIZE, 3)


def test_workers_and_segments_do_not_change_the_frames(pair, pipeline, tmp_path):
    fuse(pipeline, pair, tmp_path / "one.mkv", codec="ffv1", segment=0.5)
    fuse(pipeline, pair, tmp_path / "two.mkv", ProcessEngine(2, lost), codec="ffv1", segment=0.5)
    fuse(pipeline, pair, tmp_path / "whole.mkv", codec="ffv1")
    one, two, whole = (read(tmp_path / f"{name}.mkv") for name in ("one", "two", "whole"))
    assert one[0] == two[0]
    assert np.array_equal(one[1], two[1])
    assert one[0] == pytest.approx(whole[0], abs=2e-3)
    apart = np.abs(one[1].astype(int) - whole[1])  # a segment's averages begin twelve frames before it
    assert apart.mean() < 0.5
    assert apart.max() <= 8


def test_a_run_that_was_stopped_goes_on_with_the_next_segment(pair, pipeline, tmp_path):
    out = tmp_path / "out.mp4"
    video = plan_video(pipeline, pair, out, VideoOptions(segment=0.4), force=False)
    done = list(islice(fuse_video(pipeline, video), 1))
    assert [o.status for o in done] == ["done"]
    assert not out.exists()
    _, outcomes = fuse(pipeline, pair, out, segment=0.4)
    assert [o.status for o in outcomes] == ["skipped", "done", "done"]
    assert len(read(out)[0]) == 30
    # another method starts anew
    out.unlink()
    video = plan_video(pipeline, pair, out, VideoOptions(segment=0.4), force=False)
    list(islice(fuse_video(pipeline, video), 1))
    _, outcomes = fuse(Pipeline(prior="average", device="cpu"), pair, out, segment=0.4)
    assert [o.status for o in outcomes] == ["done"] * 3


def test_frames_are_counted_while_a_segment_is_at_work(pair, pipeline, tmp_path):
    looked = []
    video = plan_video(pipeline, pair, tmp_path / "out.mp4", VideoOptions(segment=0.4), False, looked.append)
    assert looked == [*range(1, 31)]
    assert (video.frames, video.seen()) == (30, 0)
    seen = [video.seen() for _ in fuse_video(pipeline, video)]
    assert seen == [12, 24, 30]
    assert not video.folder.exists()


def test_sizes_that_nothing_mends_are_refused_before_anything_is_written(pair, pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("test_video.SIZE", (48, 64))
    small = write(tmp_path / "small.mp4", frames(infrared_visible((100, 130), seed=1)[0], 10, 20), 20)
    before = set(tmp_path.iterdir())
    with pytest.raises(SizeMismatch, match=r"small\.mp4 is 64x48 but vis\.mp4 is 96x64"):
        fuse(pipeline, [small, pair[1]], tmp_path / "out.mp4")
    assert set(tmp_path.iterdir()) == before
    plan_video(Pipeline(resize="reference", device="cpu"), [small, pair[1]], tmp_path / "o.mp4", VideoOptions(), False)


def test_an_interrupted_video_says_what_is_kept(pair, pipeline, tmp_path, capfd):
    def stopped():
        yield Outcome("from 0.0 s", "done", counts={"frames": 12, "alone": 0})
        raise Stopped

    video = plan_video(pipeline, pair, tmp_path / "out.mp4", VideoOptions(segment=0.4), False)
    with pytest.raises(Stopped):
        Reporter().follow(stopped(), len(video.segments), video.output, "segments", video)
    assert (
        "1 of 3 segments are kept, of the one at work nothing; a shorter --segment loses less" in capfd.readouterr().err
    )


def test_a_source_is_never_the_output(pair, pipeline, tmp_path):
    sources = [shutil.copy(path, tmp_path) for path in pair]
    before = Path(sources[1]).read_bytes()
    with pytest.raises(OutputError, match="is one of the sources"):
        fuse(pipeline, [Path(s) for s in sources], Path(sources[1]), force=True)
    assert Path(sources[1]).read_bytes() == before


def test_a_live_stream_that_is_stopped_is_kept(pair, pipeline, tmp_path, monkeypatch):
    original = Stream.frames

    def stopped(self, start=0.0):
        for number, frame in enumerate(original(self, start)):
            if number == 5:
                raise Stopped(130)
            yield frame

    video = plan_video(pipeline, pair, tmp_path / "out.mp4", VideoOptions(), force=False)
    live = tuple(replace(stream, live=True) for stream in video.streams)
    monkeypatch.setattr(Stream, "frames", stopped)
    [outcome] = fuse_video(pipeline, replace(video, streams=live))
    assert (outcome.status, outcome.counts["frames"] > 0) == ("done", True)
    with pytest.raises(Stopped):
        list(fuse_video(pipeline, replace(video, output=tmp_path / "b.mp4"), force=True))


def test_16_bits_are_kept_to_the_last(tmp_path):
    infrared, visible = infrared_visible((100, 130), seed=2)
    sources = [
        write(tmp_path / "a.mkv", frames(visible, 8, 10, deep=True), 10, codec="ffv1", form="gray16le"),
        write(tmp_path / "b.mkv", frames(infrared, 8, 10, deep=True), 10, codec="ffv1", form="gray16le"),
    ]
    plain = Pipeline(prior="source", backbone="identity", color="gray", device="cpu")
    fuse(plain, sources, tmp_path / "out.mkv")
    given, made = (read(path, "gray16le")[1] for path in (sources[1], tmp_path / "out.mkv"))
    assert np.abs(given.astype(int) - made).max() <= 1  # the shot's own range, there and back
    with pytest.raises(OutputError, match=r"\.mkv"):
        fuse(plain, sources, tmp_path / "out.mp4")


def test_a_still_scene_does_not_flicker_although_its_sources_are_noisy(pipeline, tmp_path):
    rng = np.random.default_rng(0)
    infrared, visible = (np.broadcast_to(x[: SIZE[0], : SIZE[1]], (*SIZE, 3)) for x in infrared_visible((100, 130)))

    def noisy(image):
        return [(255 * (image + rng.normal(0, 0.04, image.shape)).clip(0, 1)).astype(np.uint8) for _ in range(16)]

    # without loss: what an encoder with several threads adds differs from run to run
    how = {"codec": "ffv1", "form": "bgr0"}
    sources = [write(tmp_path / f"{i}.mkv", noisy(x), 25, **how) for i, x in enumerate((infrared, visible))]
    fuse(pipeline, sources, tmp_path / "out.mkv", codec="ffv1")

    def flicker(path):
        means = read(path)[1].mean((1, 2, 3))
        return float(np.abs(np.diff(means)).mean())

    assert flicker(tmp_path / "out.mkv") <= 1.1 * max(map(flicker, sources)) + 0.05


def test_what_is_known_of_a_shot_is_not_taken_into_the_next(tmp_path):
    first, second = infrared_visible((100, 130)), multi_focus((100, 130))
    sources = []
    for i in range(2):
        images = [*frames(first[i], 6, 10), *(255 - x for x in frames(second[i], 6, 10))]
        sources.append(write(tmp_path / f"{i}.mp4", images, 10))
    pipeline = Pipeline(device="cpu", restore="none", reference=2)
    video, [outcome] = fuse(pipeline, sources, tmp_path / "out.mp4")
    assert len(video.segments[0].shots) == 2
    kinds = [note for note in outcome.notes if note.startswith("treated as")]
    assert len(kinds) == 2


def test_frames_without_a_partner_are_counted_and_left_out(pair, pipeline, tmp_path):
    infrared, _ = infrared_visible((100, 130), seed=1)
    short = write(tmp_path / "short.mp4", frames(infrared, 10, 20), 20)
    _, [outcome] = fuse(pipeline, [short, pair[1]], tmp_path / "out.mp4")
    assert outcome.counts["frames"] + outcome.counts["alone"] == 30
    assert outcome.counts["alone"] == pytest.approx(14, abs=1)
    _, [outcome] = fuse(pipeline, [short, pair[1]], tmp_path / "far.mp4", match_within=10)
    assert outcome.counts["alone"] == 0


@pytest.mark.parametrize("segment", [10, 0.5])
def test_frames_that_are_missing_inside_a_stream_are_noted_with_their_time(pair, pipeline, tmp_path, segment):
    for source, gone in zip(pair, ((6, 7), (14, 15, 16)), strict=True):
        with av.open(str(source)) as whole, av.open(str(tmp_path / source.name), "w") as cut:
            stream = cut.add_stream_from_template(whole.streams.video[0])
            for k, packet in enumerate(whole.demux(video=0)):
                if packet.dts is not None and k not in gone:
                    packet.stream = stream
                    cut.mux(packet)
    for files, expected in ((pair, []), ([tmp_path / path.name for path in pair], ["ir.mp4", "vis.mp4"])):
        _, outcomes = fuse(pipeline, files, tmp_path / f"{len(expected)}.mp4", segment=segment)
        assert {o.status for o in outcomes} == {"done"}
        noted = [note for o in outcomes for note in o.notes if "missing" in note]
        assert sorted(note.split(":")[0] for note in noted) == expected
    times, images = read(tmp_path / "2.mp4")
    for note, path in zip(sorted(noted), (tmp_path / "ir.mp4", tmp_path / "vis.mp4"), strict=True):
        found, _ = read(path)
        before = max(range(len(found) - 1), key=lambda k: found[k + 1] - found[k])
        assert f"after {found[before]:.2f} s" in note
    whole = read(pair[1])[1][21]
    near = images[int(np.argmin(np.abs(np.array(times) - 0.7)))]  # behind both gaps the streams are in step
    assert float(np.abs(near.astype(int) - pipeline.fuse(read(pair[0])[1][14], whole)).mean()) < 8


def test_a_changing_rate_is_no_loss_and_damage_is(tmp_path):
    segment = Segment(0, 0.0, 10.0, (), tmp_path)
    uneven = [(t, False) for t in (0.0, 0.1, 0.13, 0.3, 0.33, 0.36, 0.7, 0.8)]
    assert not list(_lost("a", uneven, segment))
    steady = [(k / 10, k in (3, 41, 55, 60, 70)) for k in range(80)]
    assert list(_lost("a", steady, segment)) == ["a: damaged frames at 0.30, 4.10, 5.50 s and at 2 more"]
    assert list(_lost("a", steady[:20] + steady[22:], replace(segment, start=1.95))) == [
        "a: damaged frames at 4.10, 5.50, 6.00 s and at 1 more"
    ]


def test_a_sequence_of_images_is_video(pipeline, tmp_path):
    from PIL import Image

    for name, scene in zip(("ir", "vis"), infrared_visible((100, 130)), strict=True):
        for k, image in enumerate(frames(scene, 5, 25)):
            Image.fromarray(image).save(tmp_path / f"{name}_{k:03d}.png")
    sources = [tmp_path / f"{name}_%03d.png" for name in ("ir", "vis")]
    _, [outcome] = fuse(pipeline, sources, tmp_path / "out.mp4")
    assert outcome.counts["frames"] == 5


def test_from_the_command_line(pair, tmp_path):
    out = tmp_path / "out.mp4"
    done = run_cli("run", "--prior", "average", *pair, "-o", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "30 frames fused" in done.stdout
    assert (tmp_path / "out.manifest.jsonl").exists()
    again = run_cli("run", *pair, "-o", out)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_what_cannot_be_is_said(pair, pipeline, tmp_path):
    for sources, output, error, text in (
        ([pair[0]], "a.mp4", InputError, "two or more videos"),
        ([pair[0], tmp_path / "x.png"], "a.mp4", InputError, "pictures and video"),
        (pair, "a.gif", OutputError, r"\.mp4"),
        ([pair[0], tmp_path / "missing.mp4"], "a.mp4", ImageReadError, "missing"),
    ):
        with pytest.raises(error, match=text):
            plan_video(pipeline, sources, tmp_path / output, VideoOptions(), force=False)
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        Stream.of(tmp_path / "bad.mp4", live=False)


def test_what_counts_as_video():
    assert all(is_video(s) for s in ("a.MP4", "x/%04d.png", "rtsp://cam/1", "/dev/video0", "udp:/1.2.3.4:5"))
    assert not any(is_video(s) for s in ("a.png", "100%.tif", "folder"))
    assert address("rtsp:/cam/1") == "rtsp://cam/1"
    assert address("a.mp4") == "a.mp4"


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_result_says_its_true_rate(pipeline, pair, tmp_path, name):
    fuse(pipeline, pair, tmp_path / name)
    with av.open(str(tmp_path / name)) as made, av.open(str(pair[1])) as given:
        assert made.streams.video[0].average_rate == given.streams.video[0].average_rate


def test_a_file_that_was_cut_short_is_noted_and_verbose_says_seconds(tmp_path):
    infrared, visible = infrared_visible((120, 160))
    ir = write(tmp_path / "ir.mkv", frames(infrared, 60, 10), 10)
    vis = write(tmp_path / "vis.mkv", frames(visible, 60, 10), 10)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(vis.read_bytes()[: vis.stat().st_size * 2 // 3])
    plain = ("--align", "none", "--restore", "none", "--prior", "average", "--verbose")
    for source, noted in ((vis, False), (cut, True)):
        ran = run_cli("run", ir, source, "-o", tmp_path / f"{source.stem}.mp4", *plain)
        assert ran.returncode == 0, ran.stderr
        assert ("of the 6.0 s that it states" in ran.stderr) is noted
        assert " total " in ran.stderr
