"""Training: resumes exactly, learns, writes what the plug-ins read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fusionkit.errors import InputError, OptionError
from fusionkit.numerics.luma import luma
from fusionkit.options import validate_options
from fusionkit.scenes import fractal
from fusionkit.training.data import CropSampler, PairSampler
from fusionkit.training.loop import learning_rate, train
from fusionkit.training.muon import orthogonalised
from fusionkit.training.options import TrainOptions
from fusionkit_backbones.ncsnpp import NCSNppConfig
from fusionkit_backbones.noising import add_noise
from fusionkit_backbones.rf import RectifiedFlow, RFOptions
from fusionkit_backbones.rf_training import LatentTrainer, PixelTrainer, RFTrainer, RFTrainerOptions
from fusionkit_plugins.identity import IdentityDecoder
from fusionkit_reproductions.vq import DDConfig, VQConfig
from fusionkit_reproductions.vq.decoder import VQDecoder, VQOptions
from fusionkit_reproductions.vq.training import FusionTrainer, ReconstructionTrainer, VQTrainer, VQTrainerOptions
from harness import run_cli

VQ = VQConfig(
    embed_dim=3, n_embed=32, ddconfig=DDConfig(ch=8, ch_mult=(1, 2), num_res_blocks=1, norm_groups=4, attn_type="none")
)
NET = NCSNppConfig(
    num_channels=3, nf=16, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), centered=True, scale_by_sigma=False
)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        image = np.stack([fractal((48, 64), rng) for _ in range(3)], -1)
        Image.fromarray(np.clip(128 + 50 * image, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def options(**changes):
    return TrainOptions(
        **{"steps": 6, "batch": 4, "crop": 16, "held_out": 2, "validate_every": 3, "warmup": 2, **changes}
    )


def run(folder, photos, steps, settings=None, trainer=None):
    o = options(steps=steps)
    torch.manual_seed(0)
    trainer = trainer or VQTrainer(VQTrainerOptions(architecture=VQ, quantize_from=2))
    trainer.open([photos], o)
    return train(trainer, folder, o, settings or {"same": True})


def test_an_interrupted_run_continues_to_the_same_weights(photos, tmp_path):
    """Stop at step 3 of a six-step schedule, then go on."""
    whole = run(tmp_path / "a" / "vq", photos, 6)

    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] == 3:
            raise Stop

    o = options()
    torch.manual_seed(0)
    trainer = VQTrainer(VQTrainerOptions(architecture=VQ, quantize_from=2))
    trainer.open([photos], o)
    with pytest.raises(Stop):
        train(trainer, tmp_path / "b" / "vq", o, {"same": True}, stop)
    continued = run(tmp_path / "b" / "vq", photos, 6)
    a, b = (json.loads(p.with_suffix(".json").read_text()) for p in (whole, continued))
    assert a["sha256"] == b["sha256"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "b" / "vq" / "log.jsonl").read_text().splitlines()]
    assert steps == [3, 6]


def test_the_codebook_survives_an_interruption(photos, tmp_path, monkeypatch):
    """Which entries were used lately is part of the checkpoint: else all would be moved at the next revival."""
    monkeypatch.setattr(ReconstructionTrainer, "REVIVE_EVERY", 4)
    whole = run(tmp_path / "a" / "vq", photos, 6)
    trainer = VQTrainer(VQTrainerOptions(architecture=VQ, quantize_from=2))
    o = options()

    def stop(row):
        raise KeyboardInterrupt

    torch.manual_seed(0)
    trainer = VQTrainer(VQTrainerOptions(architecture=VQ, quantize_from=2))
    trainer.open([photos], o)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, tmp_path / "b" / "vq", o, {"same": True}, stop)
    continued = run(tmp_path / "b" / "vq", photos, 6)
    a, b = (json.loads(p.with_suffix(".json").read_text())["sha256"] for p in (whole, continued))
    assert a == b


def test_other_settings_do_not_continue_a_run(photos, tmp_path):
    run(tmp_path / "vq", photos, 3)
    with pytest.raises(OptionError, match="made with other options"):
        run(tmp_path / "vq", photos, 3, {"same": False})


def test_the_schedule_rises_then_falls_to_zero():
    o = options(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(s, o) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_crops_come_from_training_images_only_and_are_reproducible(photos):
    o = options(grey=1.0)
    data = CropSampler([photos], o)
    assert len(data.paths) == 4
    assert len(data.held_out) == 2
    assert not set(data.paths) & set(data.held_out_paths)
    a, b = (data.batch(3, 16, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (3, 3, 16, 16)
    assert torch.equal(a[:, 0], a[:, 2])
    with pytest.raises(InputError, match="smaller than the crops"):
        CropSampler([photos], options(crop=50))


def test_the_autoencoder_learns_and_its_weights_load(photos, tmp_path):
    path = run(tmp_path / "mine", photos, 150)
    rows = [json.loads(line) for line in (tmp_path / "mine" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["held_out_psnr"] > rows[0]["held_out_psnr"] + 2
    decoder = VQDecoder(VQOptions(weights=str(path)))
    image = CropSampler([photos], options()).held_out[0]
    with torch.no_grad():
        z = decoder.encode(image)
    assert float(z.mean().abs()) < 0.5
    assert 0.5 < float(z.std()) < 2


def test_the_flow_learns_the_velocity_of_a_gaussian(tmp_path, photos):
    """Constant-colour images of one mean and spread: the trained field must come near the closed form."""

    class Gaussian(LatentTrainer):
        def loss(self, images, step, generator):
            z = 0.7 + 0.3 * torch.randn(16, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
            return super().loss(z, step, generator)

    torch.manual_seed(0)
    trainer = Gaussian(RFTrainerOptions(domain="latent", architecture=NET), IdentityDecoder(IdentityDecoder.Options()))
    o = options(steps=250, validate_every=250, lr=2e-3, ema=0.9)
    trainer.open([photos], o)
    path = train(trainer, tmp_path / "rf", o, {"decoder": "identity", "decoder_options": {}})
    flow = RectifiedFlow(RFOptions(weights=str(path)))
    generator = torch.Generator().manual_seed(1)
    t = 0.5
    z = 0.7 + 0.3 * torch.randn(64, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    noise = torch.randn(64, 3, 8, 8, generator=generator)
    x = (1 - t) * z + t * noise
    with torch.no_grad():
        x0 = x - t * flow.velocity(x, torch.full((64,), t))
    error = float((x0 - z).square().mean())
    # a field that treats each pixel by itself leaves the posterior variance; the colour is constant, so less is possible
    pixelwise = 0.3**2 * t**2 / ((1 - t) ** 2 * 0.3**2 + t**2)
    assert error < 0.5 * pixelwise


class TestPixels:
    """The trainer of the shipped flow."""

    def trainer(self, photos, o):
        torch.manual_seed(0)
        trainer = RFTrainer(RFTrainerOptions(architecture={"nf": 16, "ch_mult": [1, 2], "num_res_blocks": 1}))
        trainer.open([photos], o)
        return trainer

    @pytest.mark.parametrize("optimizer", ["adam", "muon"])
    def test_it_learns_to_take_noise_away(self, photos, tmp_path, optimizer):
        o = options(
            steps=80,
            validate_every=40,
            optimizer=optimizer,
            schedule="linear",
            lr=5e-3 if optimizer == "adam" else 2e-2,
        )
        trainer = self.trainer(photos, o)
        assert isinstance(trainer, PixelTrainer)
        path = train(trainer, tmp_path / "px", o, {})
        rows = [json.loads(line) for line in (tmp_path / "px" / "log.jsonl").read_text().splitlines()]
        assert rows[-1]["held_out_psnr_25"] > 20.2 + 2  # 20.2 dB is the noise itself
        flow = RectifiedFlow(RFOptions(weights=str(path)))
        assert (flow.domain, flow.channels, flow.decoder, flow.restores) == ("pixel", 1, "identity", 0.4)

    def test_muon_resumes_exactly(self, photos, tmp_path):
        o = options(optimizer="muon", lr=1e-2)
        whole = train(self.trainer(photos, o), tmp_path / "a" / "px", o, {})

        def stop(row):
            raise KeyboardInterrupt

        trainer = self.trainer(photos, o)
        with pytest.raises(KeyboardInterrupt):
            train(trainer, tmp_path / "b" / "px", o, {}, stop)
        again = train(self.trainer(photos, o), tmp_path / "b" / "px", o, {})
        assert (
            json.loads(whole.with_suffix(".json").read_text())["sha256"]
            == json.loads(again.with_suffix(".json").read_text())["sha256"]
        )

    @pytest.mark.parametrize(
        ("change", "text"), [({"crop": 12}, "multiple of 4"), ({"crop": 32}, "smaller than the crops")]
    )
    def test_crops_that_cannot_be_are_one_line(self, photos, change, text):
        with pytest.raises((OptionError, InputError), match=text):
            self.trainer(photos, options(**{"crop": 16, **change}) if change["crop"] != 12 else options(crop=14))

    def test_it_goes_on_from_weights(self, photos, tmp_path):
        o = options(steps=20, validate_every=20)
        first = train(self.trainer(photos, o), tmp_path / "a" / "px", o, {})
        again = RFTrainer(RFTrainerOptions(weights=str(first)))
        assert (again.module.config.nf, again.module.config.ch_mult) == (16, (1, 2))
        for name, tensor in RectifiedFlow(RFOptions(weights=str(first))).network.module.state_dict().items():
            assert torch.equal(tensor, again.module.state_dict()[name])
        assert all(p.requires_grad for p in again.module.parameters())

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({"weights": "rf-luma", "architecture": {"nf": 16}}, "architecture: weights have their own"),
            ({"weights": "rf-luma", "domain": "latent"}, "`weights=rf-luma` is read only with `domain` pixel"),
            ({"time_power": 2}, "`time_power=2` is read only with `domain` latent"),
            ({"domain": ["pixel"]}, "domain=pixel: expected pixel or latent"),
        ],
    )
    def test_what_would_not_be_read_is_refused(self, given, text):
        with pytest.raises(OptionError, match=text):
            validate_options(RFTrainerOptions, given, "trainer")


def test_orthogonalised_has_singular_values_near_one(generator):
    for shape in ((12, 40), (40, 12)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=generator)))
        assert 0.5 < float(values.min()) <= float(values.max()) < 1.3


def test_made_noise_has_the_stated_deviation(generator):
    x0 = torch.zeros(64, 1, 32, 32)
    y, noise = add_noise(x0, torch.full((64,), 0.1), generator)
    assert float((y - x0).std()) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(y, x0 + 0.1 * noise)
    assert float(y.abs().max()) <= 1


def test_pairs_are_cut_alike(pair_folders):
    a, b = PairSampler(pair_folders, options()).batch(4, 16, torch.Generator().manual_seed(0))
    torch.testing.assert_close(a, 1 - b)


@pytest.fixture
def pair_folders(photos, tmp_path):
    """Photographs and their negatives."""
    other = tmp_path / "other"
    other.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            Image.fromarray(255 - np.asarray(image)).save(other / path.name)
    return [other, photos]


class TestStageTwo:
    """The decoder learns on fused pairs, the encoder stays."""

    def trained(self, folders, tmp_path, steps=8):
        o = options(steps=steps, validate_every=steps, lr=1e-3)
        torch.manual_seed(0)
        trainer = VQTrainer(VQTrainerOptions(stage=2, prior="average"))
        trainer.open(folders, o, paired=True)
        return trainer, train(trainer, tmp_path / "two", o, {})

    def test_the_decoder_follows_the_rules_and_the_encoder_stays(self, pair_folders, tmp_path):
        trainer, path = self.trained(pair_folders, tmp_path)
        assert isinstance(trainer, FusionTrainer)
        before, after = (VQDecoder(VQOptions(weights=name)).network.module for name in ("vq-small", str(path)))
        for name, tensor in after.state_dict().items():
            same = torch.equal(tensor, before.state_dict()[name])
            assert same == (not name.startswith(("decoder.", "post_quant_conv."))), name
        with torch.inference_mode():
            was, now = (trainer.validate(model, trainer.held_out) for model in (before, after))
        assert now["rules"] < was["rules"]
        assert now["rules_of_fused"] == was["rules_of_fused"]

    def test_its_pictures_are_what_the_method_makes_of_whole_pairs(self, pair_folders):
        trainer = VQTrainer(VQTrainerOptions(stage=2, prior="average"))
        trainer.open(pair_folders, options(), paired=True)
        other, reference, fused = trainer.held_out[0]
        expected = (luma(other) + luma(reference)) / 2
        torch.testing.assert_close(luma(fused).mean(), expected.mean(), atol=0.01, rtol=0)

    def test_it_wants_two_folders(self, pair_folders):
        with pytest.raises(OptionError, match="two folders"):
            VQTrainer(VQTrainerOptions(stage=2)).open(pair_folders[:1], options(), paired=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("decoder",), "give folders"),
        (("decoder", "--data", "{0}", "--pairs", "{0}"), "give folders"),
        (("decoder", "--pairs", "{0}"), "at least two folders"),
        (("decoder", "--pairs", "{0}", "--pairs", "{1}"), "learns from images: use --data"),
        (("decoder", "--stage", "2", "--data", "{0}"), "learns from pairs: use --pairs"),
        (("rf", "--stage", "2", "--data", "{0}"), "no option 'stage'"),
    ],
)
def test_what_is_learned_from_is_checked_first(arguments, text, pair_folders, tmp_path):
    done = run_cli("train", *(a.format(*pair_folders) for a in arguments), "--out", tmp_path / "no")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert text in done.stderr
    assert not (tmp_path / "no").exists()


def test_the_command_line_trains_both(photos, tmp_path):
    loop = [
        f"--opt={k}={v}"
        for k, v in (("steps", 4), ("batch", 2), ("crop", 16), ("held_out", 2), ("validate_every", 2), ("warmup", 1))
    ]
    vq = [
        "architecture.ddconfig.ch=8",
        "architecture.ddconfig.norm_groups=4",
        "architecture.ddconfig.ch_mult=[1,2]",
        "architecture.ddconfig.num_res_blocks=1",
        "architecture.n_embed=16",
        "quantize_from=2",
    ]
    out = tmp_path / "w" / "vq"
    result = run_cli("train", "decoder", "--data", photos, "--out", out, *loop, *(f"--trainer-opt={o}" for o in vq))
    assert result.returncode == 0, result.stderr
    weights = out / "vq.safetensors"
    assert weights.exists()
    rf = [
        "domain=latent",
        "architecture.num_channels=8",
        "architecture.nf=8",
        "architecture.ch_mult=[1,2]",
        "architecture.num_res_blocks=1",
    ]
    result = run_cli(
        "train",
        "rf",
        "--data",
        photos,
        "--out",
        tmp_path / "w" / "rf",
        *loop,
        *(f"--trainer-opt={o}" for o in rf),
        f"--decoder-opt=weights={weights}",
    )
    assert result.returncode == 0, result.stderr
    info = json.loads((tmp_path / "w" / "rf" / "rf.json").read_text())
    assert info["decoder"] == "vq"
    assert info["decoder_options"] == {"weights": str(weights)}
    assert run_cli("train", "em_tv", "--data", photos, "--out", out).returncode == 2
