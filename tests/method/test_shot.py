"""A video's shot: what its frames share, for plug-ins of any package."""

import torch

from fusionkit.contracts import Options, Prior, ShotMemory, Stage
from fusionkit.method.pipeline import Pipeline
from fusionkit.sources import running_average

PLAIN = {"backbone": "identity", "device": "cpu", "restore": "none", "align": "none", "look": "faithful"}


class Steady(Prior):
    """The mean of the sources, brought to the running average of its brightness."""

    def correct(self, x0, sources, state, sigma):
        mixture = torch.stack(sources.luma).mean(0)
        mean = running_average(state, mixture.mean((1, 2, 3), keepdim=True))
        return mixture + mean - mixture.mean((1, 2, 3), keepdim=True), mean

    def follow(self, sources, state):
        return state


class Forgetful(Steady):
    """The same without a memory."""

    def follow(self, sources, state):
        return self.start(sources)


class Remembers(Stage):
    """Counts what it computes once, and averages the brightness of the first source."""

    def __init__(self):
        super().__init__(Options())
        self.found, self.means = [], []

    def before(self, sources):
        self.memory.once("size", lambda: self.found.append(sources.luma[0].shape))
        self.means.append(float(self.memory.steady("mean", sources.luma[0].mean())))
        return sources


def frames(*levels):
    return [[torch.full((1, 1, 16, 16), level), torch.full((1, 1, 16, 16), 0.5)] for level in levels]


def brightness(prior, shot):
    pipeline = Pipeline(prior=prior, **PLAIN)
    return [float(pipeline.run(frame, shot=shot).image.mean()) for frame in frames(0.2, 0.6, 0.2)]


def test_a_prior_of_another_package_that_keeps_averages_does_not_flicker():
    steady, forgetful = (brightness(kind(Options()), ShotMemory()) for kind in (Steady, Forgetful))
    assert abs(steady[1] - steady[0] - 0.04) < 1e-6
    assert abs(forgetful[1] - forgetful[0] - 0.2) < 1e-6
    assert brightness(Steady(Options()), None) == forgetful  # single images know nothing of each other


def test_a_stage_keeps_what_it_needs_over_the_frames_of_a_shot():
    stage, shot = Remembers(), ShotMemory()
    pipeline = Pipeline(prior="average", stages=[stage], **PLAIN)
    for frame in frames(0.2, 0.6):
        pipeline.run(frame, shot=shot)
    assert len(stage.found) == 1
    assert abs(stage.means[1] - 0.28) < 1e-6
    shot.settle()
    pipeline.run(frames(0.8)[0], shot=shot)
    assert abs(stage.means[2] - 0.8) < 1e-6  # averages begin again, the first frame's value stays
    assert len(stage.found) == 1
    pipeline.run(frames(0.4)[0])
    assert len(stage.found) == 2
    assert abs(stage.means[3] - 0.4) < 1e-6
