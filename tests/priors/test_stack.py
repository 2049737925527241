"""Focus stacks: rendered by a thin lens with true occlusion, from pictures in the public domain."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage import data

import fusionkit
from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import Job
from fusionkit.batch.run import fuse_files
from fusionkit.contracts import Frame, Frames
from fusionkit.errors import NoEffect, OutputError
from fusionkit.images.metadata import CameraSettings
from fusionkit.images.picture import Picture
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import Layer, through_lens
from fusionkit.writing import write_image
from fusionkit_priors.decision import Decision, InFocus
from fusionkit_priors.defocus import fit, rescued, veil
from fusionkit_priors.em_tv import EMTV
from fusionkit_priors.stack import Stack
from harness import correct, load_image, make, make_sources, run_cli

COUNT, GROWTH, SIZE = 7, 1.5, (160, 192)


def rendered(ground: np.ndarray, before: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Seven frames (7, 3, H, W) of two blots before a ground, the nearest first; all in focus; where the blots are."""
    y, x = np.indices(SIZE)
    blots = [np.hypot((y - 70) / 40, (x - 60) / 32), np.hypot((y - 90) / 50, (x - 140) / 22)]
    cover = np.max([(30 * (1 - blot)).clip(0, 1) for blot in blots], 0)
    layers = [
        Layer(ground[: SIZE[0], : SIZE[1]], np.ones(SIZE), np.ones(SIZE)),
        Layer(before[: SIZE[0], : SIZE[1]], cover, np.zeros(SIZE)),
    ]
    taken = [through_lens(layers, focus, GROWTH * (COUNT - 1)) for focus in np.linspace(0, 1, COUNT)]
    noise = np.random.default_rng(0).standard_normal(SIZE)[..., None] / 500
    frames, sharp = (
        torch.from_numpy(np.stack([x ** (1 / 2.2) + n for x in images]).clip(0, 1)).movedim(-1, 1).float()
        for images, n in ((taken, noise), ([through_lens(layers, 0, 0)], 0))
    )
    return frames, sharp, torch.from_numpy(cover)


@pytest.fixture(scope="module")
def scene():
    return rendered((data.astronaut() / 255) ** 2.2, 0.6 * (data.coffee()[100:] / 255) ** 2.2)


def series(frames, prior=None, distances=(), near="auto"):
    """The fused planes and the report."""
    prior = prior or Stack(Decision(InFocus, "focus-rendered", ""), near)
    settings = tuple(CameraSettings(distance=d) for d in distances)
    about = Frames(tuple(map(str, range(len(frames)))), 0, frames.shape[-2:], "focus", settings)
    state = None
    with torch.inference_mode():
        for turn in range(prior.passes):
            state = prior.begin(about, state, turn)
            for i, image in enumerate(frames.split(1)):
                one = replace(make_sources(image.mean(1, keepdim=True)), images=(image,))
                state = prior.accumulate(state, Frame(i, one, lambda x: x[:, 1:]), turn)
        return prior.conclude(about, state), about.report


def error(fused, sharp, where=...):
    return float((fused - sharp).square().mean(1, keepdim=True)[where].mean().sqrt() * 255)


class Unveiled(Stack):
    """As it is without the halos taken away."""

    def conclude(self, frames, state):
        return super().conclude(frames, {**state, "blur": None})


def test_the_growth_of_discs_and_the_near_end_are_found(scene):
    luma, cover = scene[0].mean(1, keepdim=True), scene[2]
    depth, sharp = ((1 - cover) * (COUNT - 1)).float()[None, None], scene[1].mean(1, keepdim=True)
    optics = fit(luma, sharp, depth)
    assert optics.near == "first"
    assert optics.blur == pytest.approx(GROWTH, rel=0.1)
    behind = fit(luma.flip(0), sharp, COUNT - 1 - depth)
    assert behind.near == "last"
    assert behind.blur == pytest.approx(GROWTH, rel=0.1)


def test_halos_of_near_edges_are_taken_away(scene):
    frames, sharp, cover = scene
    edge = torch.nn.functional.max_pool2d(cover[None, None], 25, 1, 12) - cover[None, None] > 0.5
    prior = Unveiled(Decision(InFocus, "focus-rendered", ""))
    with_halo, cleared = (series(frames, p)[0] for p in (prior, None))
    assert error(cleared, sharp, edge) < 0.75 * error(with_halo, sharp, edge)
    assert error(cleared, sharp, ~edge) < 1.15 * error(with_halo, sharp, ~edge)


def test_the_order_of_the_frames_does_not_matter(scene):
    there, report = series(scene[0])
    back, other = series(scene[0].flip(0))
    assert report.records["stack"][0]["near"] == "first"
    assert other.records["stack"][0]["near"] == "last"
    assert float((there - back).abs().max()) < 0.02
    torch.testing.assert_close(report.planes["depth"], other.planes["depth"], atol=0.05, rtol=0)


def test_focus_distances_say_which_end_is_near_and_the_option_more(scene):
    distances = np.linspace(0.2, 0.5, COUNT).tolist()
    said = [series(scene[0], distances=d)[1].records["stack"][0]["near"] for d in (distances, distances[::-1])]
    assert said == ["first", "last"]
    wrong, report = series(scene[0], distances=distances, near="last")
    assert report.records["stack"][0]["near"] == "last"
    assert error(wrong, scene[1]) > 1.2 * error(series(scene[0])[0], scene[1])


def test_depth_rises_from_the_near_to_the_far(scene):
    depth = series(scene[0])[1].planes["depth"]
    assert depth.shape == (1, 1, *SIZE)
    assert 0 <= float(depth.min()) < 0.05 < 0.95 < float(depth.max()) <= 1
    assert spearmanr(depth.flatten(), 1 - scene[2].flatten()).statistic > 0.8


def test_what_is_never_sharp_has_no_halo_of_what_is_beside_it():
    frames, sharp, cover = rendered(np.full((*SIZE, 3), 0.2), (data.coffee()[100:] / 255) ** 2.2)
    ground = (cover == 0)[None, None]
    fused = series(frames)[0]
    assert error(fused, sharp, ground) < 1.2
    assert error(frames[-1:], sharp, ground) > 5, "the frame that is focused on the ground has one"


def test_a_veil_covers_half_beside_a_straight_edge_and_nothing_beyond_its_disc():
    depth = torch.full((1, 1, 64, 64), 8.0)
    depth[..., :32] = 0
    cover, spread = veil(torch.full((1, 1, 64, 64), 0.5), depth, depth, 1.25)
    assert float(cover[0, 0, 32, 32]) == pytest.approx(0.5, abs=0.07)
    assert float(cover[0, 0, 32, 37]) == pytest.approx(0.2, abs=0.07)  # a disc of radius 10, cut 5.5 from its middle
    assert not cover[..., 44:].any()
    assert not cover[..., :32].any()
    torch.testing.assert_close(spread, 0.25 * cover)


def test_a_thin_thing_before_something_textured_is_taken_from_its_own_frame():
    order = torch.arange(COUNT).view(-1, 1, 1, 1)
    ground = 0.2 * 0.5 ** (COUNT - 1 - order) * torch.ones(COUNT, 1, 40, 60)  # falls towards the near end
    twice, depth = ground.clone(), torch.full((1, 1, 40, 60), COUNT - 1.0)
    twice[1, :, 18:23] = 0.1
    found = rescued(depth, twice, GROWTH)
    assert bool((found[..., 18:23, 2:-2] == 1).all())
    assert bool((found[..., :17, :] == COUNT - 1).all())
    assert torch.equal(rescued(depth, ground, GROWTH), depth)
    assert torch.equal(rescued(depth, twice, GROWTH / 4), depth), "the disc is so small that nothing is seen through it"
    twice[1, :, 18:23, ::6] = 0
    assert bool((rescued(depth, twice, GROWTH)[..., 19:22, 2:-2] == 1).all()), "most around agree"


def test_frames_that_do_not_tell_their_optics_keep_their_halos_and_say_so():
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    fused, report = series(image.repeat(5, 1, 1, 1))
    assert "halos stay" in report.notes[0]
    assert error(fused, image) < 0.5


def test_three_sources_are_a_stack_and_two_have_no_near_end(scene):
    images = [frame[None] for frame in scene[0][[0, 3, 6]]]
    fused = Pipeline(device="cpu", prior="em_tv", prior_options={"evidence": "focus"}).run(images)
    assert fused.planes["depth"].shape == (1, 1, *SIZE)
    lumas = [image.mean(1, keepdim=True) for image in images[:2]]
    with pytest.raises(NoEffect, match="2 sources"):
        correct(make(EMTV, evidence="focus", near="first"), lumas[0], make_sources(*lumas))


def test_many_pictures_are_fused_in_their_colours(scene):
    pictures = [
        Picture((255 * frame).byte().movedim(0, -1).numpy(), "8", (0.0, 255.0), f"{i}.png")
        for i, frame in enumerate(scene[0])
    ]
    fused = Pipeline(device="cpu", prior="em_tv", prior_options={"evidence": "focus"}).fuse_pictures(pictures)
    image = torch.from_numpy(fused.picture.pixels).movedim(-1, 0)[None]
    assert error(image, scene[1]) < 0.6 * min(error(frame, scene[1]) for frame in scene[0].split(1))


def test_a_file_of_the_depth_is_not_overwritten_and_a_folder_has_none(tmp_path):
    kept, job = tmp_path / "depth.png", Job("a", (tmp_path / "0.png", tmp_path / "1.png"), tmp_path / "out.png")
    kept.touch()
    method, options = Pipeline(device="cpu", prior="average"), FileOptions(save_depth=str(kept))
    with pytest.raises(OutputError, match="exists already"):
        fuse_files(method, job, options)
    with pytest.raises(NoEffect, match="it is read with a single result"):
        fusionkit.Pipeline(prior="average").fuse_folder(tmp_path, output=tmp_path / "out", files=options)


def test_the_depth_of_a_stack_is_written_beside_the_result(scene, tmp_path):
    names = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for name, frame in zip(names, scene[0], strict=True):
        write_image(name, frame, 8)
    out, depth = tmp_path / "out.png", tmp_path / "depth.png"
    call = ("run", "--task", "mff", "-o", out, "--save-depth", depth)
    done = run_cli(*call, *names)
    assert done.returncode == 0, done.stderr
    image = load_image(depth)
    assert (image.mode, image.size) == ("I;16", SIZE[::-1])
    assert np.asarray(image)[70, 60] < 0.1 * 65535 < 0.9 * 65535 < np.asarray(image)[5, 5]
    two = run_cli(*call, *names[:2], "--force")
    assert (two.returncode, "--save-depth has no effect" in two.stderr) == (2, True)


def test_a_dark_ground_beside_something_bright_keeps_no_halo():
    rng = np.random.default_rng(0)
    frames, sharp, cover = rendered(rng.uniform(0.01, 0.03, (*SIZE, 3)), rng.uniform(0.6, 0.9, (*SIZE, 3)))
    reach = torch.nn.functional.max_pool2d(cover[None, None], 21, 1, 10) - cover[None, None] > 0.99
    fused, report = series(frames)
    assert report.records["stack"][0]["near"] == "first"
    assert error(fused, sharp, reach) < 0.2 * error(frames[-1:], sharp, reach)


def test_reduced_copies_tell_the_same(scene, monkeypatch):
    whole = series(scene[0])[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
    monkeypatch.setattr("fusionkit_priors.stack.reduction", lambda *_: 2)
    frames, sharp, cover = (x.float().repeat_interleave(2, -1).repeat_interleave(2, -2) for x in scene)
    edge = torch.nn.functional.max_pool2d(cover[None, None], 21, 1, 10) - cover[None, None] > 0.5
    assert error(series(frames)[0], sharp, edge) < 1.1 * error(whole, sharp, edge)
