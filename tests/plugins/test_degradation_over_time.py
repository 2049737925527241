"""Noise and stripes of a video's frames: time helps, what is new does not drag the old along, a shot begins anew."""

import pytest
import torch
from skimage import data

from fusionkit.contracts import ShotMemory, Sources
from fusionkit.flow.restoring import side_by_side
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.window import gaussian_blur
from fusionkit.timing import Stopwatch
from fusionkit_plugins.degradations.noise import Noise
from fusionkit_plugins.degradations.stripes import Stripes

LEVEL = 15
SIZE = 144, 176


@pytest.fixture(scope="module")
def restorer():
    return Pipeline(device="cpu").restorer


def pan(count, speed=2, top=100):
    scene = torch.from_numpy(data.camera()).float()[None, None] / 255
    return [scene[..., top : top + SIZE[0], 120 + speed * k : 120 + speed * k + SIZE[1]] for k in range(count)]


def noisy(frames, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [x + LEVEL / 255 * torch.randn(x.shape, generator=generator) for x in frames]


def cleaned(restorer, frames, memory, seen=None):
    results = []
    for y in frames:
        noise = Noise(Noise.Options(level=LEVEL))
        noise = noise if memory is None else noise.remembering(memory)

        def clean(asks):
            if seen is not None:
                seen.append(sum(x.numel() for x, _ in asks) / frames[0].numel())
            return restorer.cleaner(asks, Stopwatch())

        results += side_by_side([noise.undo(y, 0.0)], clean)
    return results


def decibels(results, truth):
    return float(
        -10 * torch.stack([(x - t).square().mean() for x, t in zip(results, truth, strict=True)]).log10().mean()
    )


def flicker(results, truth):
    error = torch.cat([x - t for x, t in zip(results, truth, strict=True)])
    return float((error[:-2] - 2 * error[1:-1] + error[2:]).abs().mean())


@pytest.mark.parametrize("speed", [0, 2])
def test_time_gains_a_decibel_and_flickers_less(restorer, speed):
    truth = pan(7, speed)
    alone, seen = cleaned(restorer, noisy(truth), None), []
    together = cleaned(restorer, noisy(truth), ShotMemory(), seen)
    torch.testing.assert_close(together[0], alone[0])
    assert decibels(together[4:], truth[4:]) > decibels(alone[4:], truth[4:]) + 1
    assert flicker(together[2:], truth[2:]) < 0.8 * flicker(alone[2:], truth[2:])


def test_what_rests_asks_the_flow_less(restorer):
    seen = []
    cleaned(restorer, noisy(pan(10, 0)), ShotMemory(), seen)
    assert sum(seen[5:]) < 0.9 * 5


def test_another_scene_leaves_no_ghost(restorer):
    truth = [*pan(4), *pan(2, top=300)]
    alone, together = (cleaned(restorer, noisy(truth), memory) for memory in (None, ShotMemory()))
    assert decibels(together[4:], truth[4:]) > decibels(alone[4:], truth[4:]) - 0.7


def test_a_moving_part_leaves_no_trail(restorer):
    truth = [frame.clone() for frame in pan(6, 0)]
    for k, frame in enumerate(truth):
        frame[..., 40:80, 10 + 20 * k : 40 + 20 * k] = 0.9
    alone, together = (cleaned(restorer, noisy(truth), memory)[-1] for memory in (None, ShotMemory()))
    trail = (slice(None), slice(None), slice(36, 84), slice(60, 140))  # uncovered one to three frames ago, and the part
    assert decibels([together[trail]], [truth[-1][trail]]) > decibels([alone[trail]], [truth[-1][trail]]) - 0.5


def test_what_is_dark_is_not_lit_by_noise_that_black_clips(restorer):
    truth = [0.12 * frame for frame in pan(7, 0)]
    frames = [y.clamp(0, 1) for y in noisy(truth)]
    alone, together = (cleaned(restorer, frames, memory) for memory in (None, ShotMemory()))
    assert decibels(together[4:], truth[4:]) > decibels(alone[4:], truth[4:]) + 1
    assert abs(255 * float((together[-1] - truth[-1]).mean())) < 0.6  # clipping adds 3 levels


def test_what_changes_its_shape_is_as_clean_as_in_one_frame(restorer):
    truth, other = [frame.clone() for frame in pan(6, 0)], pan(1, top=260)[0]
    for k, frame in enumerate(truth):
        limb = 60 + 2 * k * (k % 2)
        frame[..., 30:110, 10 + 9 * k : 74 + 9 * k] = other[..., 30:110, limb : limb + 64]
    alone, together = (cleaned(restorer, noisy(truth), memory) for memory in (None, ShotMemory()))
    part = [[x[..., 30:110, 10:130] for x in frames[3:]] for frames in (together, alone, truth)]
    assert decibels(part[0], part[2]) > decibels(part[1], part[2]) - 0.65


def lines_in_black(count):
    offsets = 10 / 255 * torch.randn(1, 1, 1, 256, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    return [(offsets + 12 / 255 * torch.randn(1, 1, 200, 256, generator=generator)).clamp(0, 1) for _ in range(count)]


def test_lines_that_black_hides_leave_no_streaks():
    offsets = 10 / 255 * torch.randn(1, 1, 1, 256, generator=torch.Generator().manual_seed(3))
    memory, means = ShotMemory(), []
    memory.keep("lines", (offsets.expand(1, 1, 200, 256), 13))  # as they were found in the lit part
    for y in lines_in_black(3):
        stripes = Stripes(Stripes.Options(direction="columns", level=10)).remembering(memory)
        (x,) = side_by_side([stripes.undo(y, 0.0)], lambda asks: [x for x, _ in asks])
        means.append(x.clamp(0, 1).mean(-2))
    assert 255 * float(torch.cat(means).mean(0).std()) < 2.5  # 4 where all of an offset is given back


def test_a_shot_that_settles_begins_anew_in_every_channel(restorer):
    colour = torch.cat([pan(1)[0] * share for share in (1, 0.8, 0.6)], 1)
    frames = [Sources.of([x.clamp(0, 1)]) for x in noisy([colour] * 3)]
    memory = ShotMemory()
    first, second = (restorer(frame, Stopwatch(), memory)[0].images[0] for frame in frames[:2])
    memory.settle()
    again = restorer(frames[1], Stopwatch(), memory)[0].images[0]
    rows = restorer(frames[1], Stopwatch(), memory)[1]
    assert [row.degradation for row in rows] == ["noise"]
    error = [float((x - colour).square().mean()) for x in (second, again)]
    assert error[0] < error[1]
    assert not torch.equal(first, again)


def lined(count, same):
    generator = torch.Generator().manual_seed(3)
    offsets = [8 / 255 * torch.randn(1, 1, 1, 256, generator=generator) for _ in range(count)]
    smooth = gaussian_blur(torch.rand(1, 1, 200, 256, generator=generator), 12)
    smooth = 0.5 + 0.2 * (smooth - smooth.mean()) / smooth.std()
    return [smooth + (offsets[0] if same else c) for c in offsets], smooth


@pytest.mark.parametrize("same", [True, False])
def test_lines_of_a_sensor_are_sought_in_few_frames_those_of_each_frame_in_all(same):
    frames, smooth = lined(20, same)
    memory, asked, errors = ShotMemory(), [], []

    def clean(asks):
        asked.append(len(asks))
        return [gaussian_blur(x, 3) for x, _ in asks]

    counts = []
    for y in frames:
        asked.clear()
        stripes = Stripes(Stripes.Options(direction="columns", level=8)).remembering(memory)
        (x,) = side_by_side([stripes.undo(y, 0.0)], clean)
        counts.append(len(asked))
        errors.append(255 * float((x - smooth - (x - smooth).mean()).std()))
    assert all(counts[:12])
    assert (sum(counts[12:]) == counts[0]) == same
    assert max(errors) < 4  # of 8
