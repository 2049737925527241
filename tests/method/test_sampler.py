"""The sampler where the answer is known: for Gaussian data the velocity is exact, and so is every solver's result."""

import math

import pytest
import torch

from fusionkit.contracts import Backbone, Decoder, Options, Prior
from fusionkit.errors import NoEffect, OptionError, PluginError
from fusionkit.method.config import SamplerOptions
from fusionkit.method.sampler import Sampler
from fusionkit_backbones.identity import Identity
from fusionkit_plugins.color.gray import Gray
from fusionkit_plugins.identity import IdentityDecoder
from fusionkit_priors.baselines import Average, Keep
from harness import make_sources

MEAN, SPREAD = 0.4, 0.25


def scale(t, spread=SPREAD):
    """Standard deviation of x_t."""
    return ((1 - t) ** 2 * spread**2 + t**2) ** 0.5


class GaussianFlow(Backbone):
    """The exact field for data N(MEAN, SPREAD²), independent pixels."""

    domain, channels = "any", None

    def velocity(self, x_t, t):
        t = t.view(-1, 1, 1, 1)
        centred = x_t - (1 - t) * MEAN
        gain = ((1 - t) * SPREAD**2, t)
        x0 = MEAN + gain[0] * centred / scale(t) ** 2
        return gain[1] * centred / scale(t) ** 2 - x0


class Recorder(Prior):
    """Replaces the estimate by a constant and keeps what it was shown."""

    def __init__(self, value):
        self.value, self.seen = value, []

    def start(self, sources):
        return 0

    def correct(self, x0, sources, state, sigma):
        self.seen.append((x0.clone(), state, sigma))
        return torch.full_like(x0, self.value), state + 1


def sampler(prior=None, backbone=None, **options):
    return Sampler(
        backbone or GaussianFlow(Options()),
        prior or Keep(Options()),
        IdentityDecoder(IdentityDecoder.Options()),
        Gray(Options()),
        SamplerOptions(**options),
    )


def start(shape=(1, 1, 16, 16), value=0.5, strength=0.1):
    """The sources, and the x at t1 that the sampler with seed 0 begins with."""
    sources = make_sources(torch.full(shape, value))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return sources, (1 - strength) * sources.luma[0] + strength * noise


def seeded():
    return torch.Generator().manual_seed(0)


def exact_flow(x, t):
    """Where the ODE takes x from time t to 0: it keeps the standardised value."""
    return MEAN + SPREAD * (x - (1 - t) * MEAN) / scale(t)


def euler_factor(times):
    """What Euler makes of the standardised deviation: the field is linear in it."""
    product = 1.0
    for t, t_next in zip(times, times[1:], strict=False):
        slope = (t - (1 - t) * SPREAD**2) / scale(t) ** 2
        product *= 1 + (t_next - t) * slope
    return product


def test_one_step_is_the_posterior_mean():
    sources, x = start(strength=0.6)
    result = sampler(strength=0.6)(sources, seeded()).image
    expected = MEAN + 0.4 * SPREAD**2 * (x - 0.4 * MEAN) / scale(0.6) ** 2
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_euler_of_n_steps_is_its_closed_product(steps):
    sources, x = start(strength=0.8)
    times = [0.8 * (1 - i / steps) for i in range(steps)] + [0.0]
    result = sampler(strength=0.8, steps=steps)(sources, seeded()).image
    torch.testing.assert_close(result, MEAN + euler_factor(times) * (x - 0.2 * MEAN), rtol=1e-4, atol=1e-5)


def test_heun_is_of_second_order_and_euler_of_first():
    sources, x = start(strength=0.8)
    exact = exact_flow(x, 0.8)

    def error(solver, steps):
        result = sampler(strength=0.8, steps=steps, solver=solver)(sources, seeded()).image
        return float((result - exact).abs().max())

    assert error("euler", 20) / error("euler", 40) == pytest.approx(2, rel=0.25)
    assert error("heun", 20) / error("heun", 40) > 3
    assert error("heun", 40) < error("euler", 40) / 10


def test_rk45_follows_the_flow():
    sources, x = start(strength=0.9)
    result = sampler(strength=0.9, solver="rk45")(sources, seeded()).image
    torch.testing.assert_close(result, exact_flow(x, 0.9), atol=2e-4, rtol=0)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_exact_field_samples_the_right_mean_and_covariance(solver):
    """Correlated data: the field is diagonal in Fourier space, each frequency a Gaussian of its own."""
    size, images = 8, 2000
    f = torch.fft.fftfreq(size)
    spread = (0.05 + 0.4 * torch.exp(-20 * (f[:, None] ** 2 + f[None, :] ** 2))).double()

    class Correlated(Backbone):
        domain, channels = "any", None

        def velocity(self, x_t, t):
            t = t.view(-1, 1, 1, 1).double()
            centred = torch.fft.fft2(x_t.double() - (1 - t) * MEAN)
            slope = (t - (1 - t) * spread**2) / ((1 - t) ** 2 * spread**2 + t**2)
            return (torch.fft.ifft2(slope * centred).real - MEAN).float()

    sources = make_sources(torch.zeros(images, 1, size, size))
    run = sampler(backbone=Correlated(Options()), strength=1.0, steps=64, solver=solver, spacing="quadratic")
    samples = run(sources, seeded()).image.double()
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.01)
    spectrum = (torch.fft.fft2(samples - MEAN).abs() ** 2).mean(dim=(0, 1)).sqrt() / size
    # Euler's own error at 64 steps is under 6 %; 2000 samples leave 1.6 %
    torch.testing.assert_close(spectrum, spread, rtol=0.09 if solver == "euler" else 0.06, atol=0)


def test_the_prior_has_the_last_word_and_sees_state_and_noise_share():
    prior = Recorder(0.7)
    sources, _ = start(strength=0.5)
    result = sampler(prior, strength=0.5, steps=2)(sources, seeded()).image
    assert bool((result == 0.7).all())
    assert [state for _, state, _ in prior.seen] == [0, 1]
    assert [sigma for *_, sigma in prior.seen] == pytest.approx([0.5**0.5, 0.25 / math.hypot(0.25, 0.75)])


def test_the_corrected_estimate_steers_the_next_step():
    """After a step with x̂₀ replaced by c, x_t' must be (1 - t') c + t' ε̂."""
    prior = Recorder(0.7)
    sources, x = start(strength=0.5)
    sampler(prior, strength=0.5, steps=2)(sources, seeded())
    x_next = 0.75 * 0.7 + 0.25 * (x - 0.5 * 0.7) / 0.5
    expected = MEAN + 0.75 * SPREAD**2 * (x_next - 0.75 * MEAN) / scale(0.25) ** 2
    torch.testing.assert_close(prior.seen[1][0], expected)


def test_injection_none_leaves_the_flow_alone():
    prior = Recorder(0.7)
    sources, _ = start()
    flow = sampler(strength=0.5, steps=3)(sources, seeded()).image
    torch.testing.assert_close(sampler(prior, strength=0.5, steps=3, inject="none")(sources, seeded()).image, flow)
    assert prior.seen == []


def test_guidance_adds_the_energys_gradient_with_its_weight():
    """One guided step: x̂₀ - t · t / (1 - t) · scale · dx̂₀/dx · Σ (x̂₀ - y)."""
    y = torch.full((1, 1, 4, 4), 0.9)
    sources = make_sources(y)
    t = 0.5
    x = (1 - t) * y + t * torch.randn(y.shape, generator=seeded())
    slope = (1 - t) * SPREAD**2 / scale(t) ** 2
    x0 = MEAN + slope * (x - (1 - t) * MEAN)
    expected = x0 - t * (t / (1 - t)) * 0.3 * slope * (x0 - y)
    run = sampler(Average(Options()), strength=t, inject="velocity", guidance_scale=0.3)
    torch.testing.assert_close(run(sources, seeded()).image, expected)
    outside = sampler(Average(Options()), strength=t, inject="velocity", guidance_range=(0.0, 0.4))
    torch.testing.assert_close(outside(sources, seeded()).image, x0)


def test_guidance_needs_an_energy_and_eta_needs_euler():
    with pytest.raises(OptionError, match="energy"):
        sampler(Recorder(0.1), inject="velocity")
    with pytest.raises(OptionError, match=r"`eta=0\.5` is read only with `solver` euler; here `solver` is heun"):
        sampler(strength=0.5, steps=2, eta=0.5, solver="heun")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "`steps=2` is read only with `strength` above 0"),
        ({"strength": 0.1, "spacing": "quadratic"}, "`spacing=quadratic` is read only with `steps` above 1"),
        ({"strength": 0.1, "steps": 4, "solver": "rk45"}, "`steps=4` is read only with `solver` euler, heun"),
        ({"strength": 0.1, "guidance_scale": 2}, "`guidance_scale=2` is read only with `inject` velocity or both"),
        ({"strength": 0.1, "detail": "drop"}, "`detail=drop` has no effect"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(NoEffect, match=f"^{message}"):
        sampler(**options)


def test_guidance_is_refused_where_nothing_moves():
    with pytest.raises(NoEffect, match="`inject=velocity` is read only with `strength` above 0"):
        sampler(Average(Options()), inject="velocity")


def test_a_flow_that_the_prior_does_not_look_at_is_refused():
    class Blind(Average):
        reads_x0 = False

    with pytest.raises(NoEffect, match="Blind does not look at the flow's estimate"):
        sampler(Blind(Options()), strength=0.1)


def test_a_seed_is_refused_where_nothing_is_drawn():
    sampler(strength=0.1).check_seed(3)
    sampler(strength=0.1, start="reference", steps=2, eta=0.5).check_seed(3)
    for options in ({}, {"strength": 0.1, "start": "reference"}):
        sampler(**options).check_seed(0)
        with pytest.raises(NoEffect, match="`seed=3` has no effect"):
            sampler(**options).check_seed(3)


def test_a_prior_that_ignores_the_estimate_costs_no_network():
    class Fails(Backbone):
        domain, channels = "any", None

        def velocity(self, x_t, t):
            raise AssertionError("the network ran")

    sources = make_sources(torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.6))
    result = sampler(Average(Options()), backbone=Fails(Options()))(sources).image
    torch.testing.assert_close(result, torch.full((1, 1, 4, 4), 0.4))


def test_a_callback_sees_every_step():
    seen = []
    sources, _ = start()
    sampler(strength=0.6, steps=3)(sources, seeded(), callback=seen.append)
    assert [(s.index, round(s.t, 6), round(s.t_next, 6)) for s in seen] == [(0, 0.6, 0.4), (1, 0.4, 0.2), (2, 0.2, 0.0)]
    seen.clear()
    sampler(strength=0.6, solver="rk45")(sources, seeded(), callback=seen.append)
    assert [s.t for s in seen] == [0.6, *[s.t_next for s in seen[:-1]]]
    assert seen[-1].t_next == pytest.approx(1e-3)


@pytest.mark.parametrize("solver", ["euler", "heun", "rk45"])
def test_a_grey_reference_beside_a_coloured_source(solver, generator):
    from fusionkit.contracts import Sources
    from fusionkit_plugins.color.ycbcr import YCbCr
    from fusionkit_priors.em_tv import EMTV

    grey, color = torch.rand(1, 1, 8, 8, generator=generator), torch.rand(1, 3, 8, 8, generator=generator)
    space = YCbCr(YCbCr.Options())
    sources = Sources((grey, color), (grey, space.split(color)[0]), reference=0)
    run = Sampler(
        GaussianFlow(Options()),
        EMTV(EMTV.Options()),
        IdentityDecoder(IdentityDecoder.Options()),
        space,
        SamplerOptions(strength=0.2, solver=solver, **({"tolerance": 1e-2} if solver == "rk45" else {"steps": 2})),
    )
    assert run(sources, seeded()).image.shape == (1, 3, 8, 8)


@pytest.mark.parametrize("bad", ["shape", "nan"])
def test_what_no_image_can_be_made_of_names_the_plugin(bad):
    class Broken(Prior):
        def correct(self, x0, sources, state, sigma):
            return (x0[..., 1:] if bad == "shape" else x0 * float("nan")), None

    with pytest.raises(PluginError, match=r"Broken\.correct returned"):
        sampler(Broken(Options()))(start()[0], seeded())


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_same_seed_same_bytes(eta):
    sources, _ = start()
    run = sampler(strength=0.6, steps=3, eta=eta)
    assert torch.equal(run(sources, seeded()).image, run(sources, seeded()).image)
    assert not torch.equal(run(sources, seeded()).image, run(sources, torch.Generator().manual_seed(1)).image)


def test_the_estimate_is_encoded_again_only_when_a_step_follows_and_the_prior_changed_it():
    class Counting(Decoder):
        lossless, channels = True, 1
        encoded = 0

        def encode(self, image):
            self.encoded += 1
            return image[:, :1]

        def decode(self, z, size):
            return z

    def count(prior, steps):
        decoder = Counting(Options())
        run = Sampler(
            GaussianFlow(Options()), prior, decoder, Gray(Options()), SamplerOptions(steps=steps, strength=0.1)
        )
        run(start()[0], seeded())
        return decoder.encoded

    assert count(Recorder(0.5), 1) == 1
    assert count(Recorder(0.5), 3) == 3
    assert count(Keep(Options()), 3) == 1


class Lossy(Decoder):
    """Keeps the mean of 2x2 blocks."""

    channels, factor = 3, 2

    def encode(self, image):
        return torch.nn.functional.avg_pool2d(image, 2)

    def decode(self, z, size):
        return z.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_what_the_autoencoder_loses_is_given_back(generator):
    """With no flow at all the prior must see the reference itself, however poor the autoencoder."""
    sources = make_sources(torch.rand(1, 1, 8, 8, generator=generator))

    def estimate(detail):
        run = Sampler(
            Identity(Identity.Options()),
            Keep(Options()),
            Lossy(Options()),
            Gray(Options()),
            SamplerOptions(strength=1e-6, detail=detail),
        )
        return run(sources, seeded()).image

    torch.testing.assert_close(estimate("keep"), sources.luma[0], atol=1e-5, rtol=0)
    assert float((estimate("drop") - sources.luma[0]).abs().mean()) > 0.1


def test_after_a_correction_the_loss_is_that_of_the_corrected_image(generator):
    target = torch.rand(1, 1, 8, 8, generator=generator)

    class Sets(Prior):
        seen = []

        def correct(self, x0, sources, state, sigma):
            self.seen.append(x0.clone())
            return target.clone(), None

    run = Sampler(
        Identity(Identity.Options()),
        Sets(Options()),
        Lossy(Options()),
        Gray(Options()),
        SamplerOptions(strength=1e-6, steps=2),
    )
    run(make_sources(torch.rand(1, 1, 8, 8, generator=generator)), seeded())

    def fine(x):  # what the autoencoder cannot hold
        return x - Lossy(Options()).decode(Lossy(Options()).encode(x), None)

    torch.testing.assert_close(fine(Sets.seen[1]), fine(target), atol=1e-4, rtol=0)


class TestFinish:
    """Who has the last word."""

    class Halved(Decoder):
        """Gives back half of what it is given."""

        def encode(self, image):
            return image / 2

        def decode(self, z, size):
            return z

    def sampler(self, decoder):
        return Sampler(
            Identity(Options()), Average(Options()), decoder, Gray(Options()), SamplerOptions(finish="decoder")
        )

    def test_the_decoder_paints_what_the_prior_fused(self, scene):
        sources = make_sources(scene[0], scene[0])
        torch.testing.assert_close(self.sampler(self.Halved(Options()))(sources).image, scene[0] / 2)

    def test_a_lossless_decoder_has_nothing_to_say(self):
        with pytest.raises(OptionError, match="finish=decoder"):
            self.sampler(IdentityDecoder(IdentityDecoder.Options()))
