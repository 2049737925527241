"""The learned prior: what its untrained network is, what it must not do, how it trains."""

import pytest
import torch

from fusionkit.training.loop import train
from fusionkit.training.options import TrainOptions
from fusionkit.weights import open_weights
from fusionkit_priors.laplacian import Laplacian
from fusionkit_priors.learned import Choices, ChoicesConfig, Learned, LearnedOptions
from fusionkit_priors.learned_training import LearnedTrainer, LearnedTrainerOptions, render
from harness import correct, make, make_sources, psnr


def random_network(seed=0):
    torch.manual_seed(seed)
    network = Choices(ChoicesConfig())
    for chooser in (network.detail, network.base):
        torch.nn.init.normal_(chooser.third.weight, std=2.0)
    return network.requires_grad_(False).eval()


def prior(network, **options):
    return Learned(LearnedOptions(**options), network)


def test_untrained_it_is_nearly_the_laplacian_pyramid(scene):
    ir, visible = scene[0], scene[1].mean(1, keepdim=True)
    sources = make_sources(ir, visible)
    low, high = torch.stack(sources.luma).amin(0), torch.stack(sources.luma).amax(0)
    expected = torch.minimum(torch.maximum(correct(make(Laplacian), visible, sources), low), high)
    assert psnr(correct(prior(Choices(ChoicesConfig()).requires_grad_(False)), visible, sources), expected) > 45


def test_sources_beside_the_reference_are_equal_in_rights(photo, scene):
    a, b, c = photo, scene[0], scene[1].mean(1, keepdim=True)
    network = random_network()
    one, other = (correct(prior(network), c, make_sources(*lumas)) for lumas in ((a, b, c), (b, a, c)))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_whatever_its_weights_it_stays_in_the_sources_range(scene):
    sources = make_sources(scene[0], scene[1].mean(1, keepdim=True))
    fused = correct(prior(random_network()), sources.luma[-1], sources)
    every = torch.stack(sources.luma)
    assert bool((fused >= every.amin(0)).all())
    assert bool((fused <= every.amax(0)).all())


def test_balance_goes_all_the_way_to_either_side(scene):
    ir, visible = scene[0], scene[1].mean(1, keepdim=True)
    for balance, wanted in ((10.0, visible), (-10.0, ir)):
        fused = correct(prior(random_network(), balance=balance), visible, make_sources(ir, visible))
        assert psnr(fused, wanted) > psnr(correct(prior(random_network()), visible, make_sources(ir, visible)), wanted)


def test_weights_of_the_sources_are_shares_of_one_in_each_band(scene):
    lumas = torch.stack([scene[0], scene[1].mean(1, keepdim=True)])
    for weights in random_network()(lumas, 1, torch.zeros(2, 1, 1, 1, 1), 0.0)[0]:
        torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


def test_rendered_pairs_have_hot_bodies_and_the_photograph(photo, generator):
    pairs = render(photo.expand(16, -1, -1, -1).contiguous(), generator)
    assert pairs.shape == (2, 16, 1, 96, 128)
    assert float(pairs.amin()) >= 0
    assert float(pairs.amax()) <= 1
    assert int((pairs[0].flatten(1).amax(1) > 0.7).sum()) >= 8
    assert float(torch.corrcoef(torch.stack([pairs[1].mean(0).flatten(), photo.flatten()]))[0, 1]) > 0.7


@pytest.mark.parametrize("paired", [True, False])
def test_training_lowers_the_loss_on_what_was_held_out_and_writes_weights(paired, tmp_path, pair_files):
    import shutil

    for name, file in zip(("ir", "vis"), pair_files, strict=True):
        (tmp_path / name).mkdir()
        for i in range(3):
            shutil.copy(file, tmp_path / name / f"{i}.png")
    folders = [tmp_path / "ir", tmp_path / "vis"] if paired else [tmp_path / "vis"]
    options = TrainOptions(steps=12, batch=2, crop=64, held_out=1, validate_every=12, warmup=1, lr=5e-3)
    torch.manual_seed(0)
    trainer = LearnedTrainer(LearnedTrainerOptions())
    trainer.open(folders, options, paired)

    def held_out_loss():
        with torch.inference_mode():
            return sum(trainer.validate(trainer.module, trainer.held_out).values())

    before = held_out_loss()
    path = train(trainer, tmp_path / "out", options, {})
    assert held_out_loss() < before
    loaded = make(Learned, weights=str(path))
    assert open_weights(path).info["kind"] == "prior learned"
    assert sum(p.numel() for p in loaded.network.module.parameters()) < 300_000
