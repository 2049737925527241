"""Metrics of structure and the dialects against plain loops over pixels, windows and channels."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from scipy.signal import convolve2d, correlate2d

from fusionkit.contracts import Sources
from fusionkit.numerics.luma import luma
from fusionkit.registry.loading import get_registry
from harness import make_sources

HEIGHT, WIDTH = 45, 58  # neither even nor a multiple of 16


def value(name, fused, *images):
    return float(get_registry().create("metric", name)(fused, Sources(images, tuple(luma(x) for x in images)))[0])


def tensor(levels):
    x = torch.from_numpy(np.atleast_3d(levels).transpose(2, 0, 1)[None].astype(np.float32))
    return x / 255


@pytest.fixture(scope="module")
def images():
    """Result and two sources as grey levels, with flat areas, saturated ones and edges that are in one alone."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    a = 90 + 70 * np.sin(x / 5) + rng.normal(0, 6, x.shape)
    b = 120 + 80 * ((x - 30) ** 2 + (y - 20) ** 2 < 150) + rng.normal(0, 6, x.shape)
    a[30:, :20] = b[30:, :20] = 77
    b[:6, 40:] = 300
    f = 0.5 * (a + b) + rng.normal(0, 3, x.shape)
    f[30:, :20] = 77
    return [np.clip(np.round(z), 0, 255) for z in (f, a, b)]


def check(name, images, expected, rel=1e-9):
    assert value(name, *(tensor(x) for x in images)) == pytest.approx(expected, rel=rel)


def gauss(size, deviation):
    x = np.arange(size) - (size - 1) / 2
    w = np.exp(-(x**2) / (2 * deviation**2))
    return w / w.sum()


def means(x, w):
    return correlate2d(x, np.outer(w, w), "valid")


def moments(x, y, w):
    mx, my = means(x, w), means(y, w)
    return mx, my, means(x * x, w) - mx**2, means(y * y, w) - my**2, means(x * y, w) - mx * my


def ssim(x, y, w, c1, c2):
    mx, my, vx, vy, vxy = moments(x, y, w)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * vxy + c2) / (vx + vy + c2)


C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class TestStandard:
    def test_qy(self, images):
        f, a, b = images
        w = gauss(7, 1.5)
        ab, af, bf = (ssim(x, y, w, C1, C2) for x, y in ((a, b), (a, f), (b, f)))
        _, _, va, vb, _ = moments(a, b, w)
        total = np.maximum(va, 0) + np.maximum(vb, 0)
        share = np.where(total > 0, np.maximum(va, 0) / np.where(total > 0, total, 1), 0.5)
        q = np.where(ab >= 0.75, share * af + (1 - share) * bf, np.maximum(af, bf))
        check("Qy", images, q.mean(), rel=1e-6)

    def test_qw(self, images):
        f, a, b = images
        total = weight = 0.0
        for y in range(HEIGHT - 7):
            for x in range(WIDTH - 7):
                p, q, r = (z[y : y + 8, x : x + 8] for z in (a, b, f))
                c = max(p.var(), q.var())
                if c == 0:
                    continue
                s = p.var() / (p.var() + q.var())

                def index(u, v):
                    cov = ((u - u.mean()) * (v - v.mean())).mean()
                    parts = [(2 * u.mean() * v.mean(), u.mean() ** 2 + v.mean() ** 2), (2 * cov, u.var() + v.var())]
                    return math.prod(n / d if d else 1.0 for n, d in parts)

                total, weight = total + c * (s * index(p, r) + (1 - s) * index(q, r)), weight + c
        check("Qw", images, total / weight)

    def test_ms_ssim_is_one_for_the_sources_themselves_and_a_product_over_scales(self):
        rng = np.random.default_rng(0)
        a = np.kron(rng.integers(0, 256, (23, 25)), np.ones((8, 8)))[:181, :193]
        b = np.clip(a + rng.integers(-40, 41, a.shape), 0, 255)
        assert value("MS_SSIM", tensor(a), tensor(a), tensor(a)) == pytest.approx(1)
        expected, x, y, w = 1.0, a, b, gauss(11, 1.5)
        for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my, vx, vy, vxy = moments(x, y, w)
            structure = (2 * vxy + C2) / (vx + vy + C2)
            term = structure if scale < 4 else structure * (2 * mx * my + C1) / (mx**2 + my**2 + C1)
            expected *= max(term.mean(), 0) ** exponent
            x, y = (z[: z.shape[0] // 2 * 2, : z.shape[1] // 2 * 2] for z in (x, y))
            x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) for z in (x, y))
        assert value("MS_SSIM", tensor(b), tensor(a), tensor(a)) == pytest.approx(expected)
        assert math.isnan(value("MS_SSIM", tensor(a[:175]), tensor(a[:175]), tensor(a[:175])))

    @pytest.mark.parametrize(("name", "weak"), [("Nabf", 0.001), ("ivif_zoo.Nabf", 0.0)])
    def test_nabf(self, images, name, weak):
        def edges(z):
            z = np.pad(z / 8, 1, "reflect")
            gx = correlate2d(z, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "valid")
            gy = correlate2d(z, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "valid")
            return np.hypot(gx, gy), np.arctan2(gy, gx)

        (gf, af), *rest = (edges(z) for z in images)
        top = total = 0.0
        for y in range(HEIGHT):
            for x in range(WIDTH):
                artefact = all(gf[y, x] > g[y, x] for g, _ in rest)
                for g, angle in rest:
                    w = g[y, x] ** 1.5 if g[y, x] >= 2 else weak
                    large = max(g[y, x], gf[y, x])
                    ratio = min(g[y, x], gf[y, x]) / large if large else 0.0
                    turn = abs(angle[y, x] - af[y, x]) % math.pi
                    agreement = 1 - 2 * min(turn, math.pi - turn) / math.pi
                    q = math.sqrt(
                        0.9999 / (1 + math.exp(-19 * (ratio - 0.5))) * 0.9995 / (1 + math.exp(-22 * (agreement - 0.5)))
                    )
                    top, total = top + artefact * (1 - q) * w, total + w
        check(name, images, top / total, rel=1e-3)  # where there is no edge, the angle is free

    def test_fmi_by_its_definition_window_by_window(self, images):
        f, a, b = (x[10:24, 25:40] for x in images)

        def entropy(p):
            p = p[p != 0]
            return -(p * np.log2(np.abs(p))).sum()

        def information(x, y):
            if (x == y).all():
                return 1.0
            densities = []
            for window in (x, y):
                z = window.T.ravel() - window.min()
                z = z / z.max() if z.max() > 0 else np.ones(9)
                densities.append(z / z.sum())
            p, q = densities
            c = 0.0 if p.std() < 1e-15 or q.std() < 1e-15 else np.corrcoef(p, q)[0, 1]
            sp, sq = (math.sqrt((d * np.arange(1, 10) ** 2).sum() - (d * np.arange(1, 10)).sum() ** 2) for d in (p, q))
            cp, cq = np.cumsum(p), np.cumsum(q)
            cumulative = np.zeros((10, 10))
            for i in range(9):
                for j in range(9):
                    cumulative[i + 1, j + 1] = min(cp[i], cq[j]) if c >= 0 else max(cp[i] + cq[j] - 1, 0)
            covariance = (cumulative[1:, 1:] - np.outer(cp, cq)).sum()
            scale = 0.0 if c == 0 or covariance == 0 else c * sp * sq / covariance
            joint = scale * np.diff(np.diff(cumulative, axis=0), axis=1) + (1 - scale) * np.outer(p, q)
            return 2 * (entropy(p) + entropy(q) - entropy(joint)) / (entropy(p) + entropy(q))

        found = [
            (
                information(a[y : y + 3, x : x + 3], f[y : y + 3, x : x + 3])
                + information(b[y : y + 3, x : x + 3], f[y : y + 3, x : x + 3])
            )
            / 2
            for y in range(f.shape[0] - 2)
            for x in range(f.shape[1] - 2)
        ]
        check("FMI", (f, a, b), np.mean(found), rel=1e-6)
        assert value("FMI", tensor(a), tensor(a), tensor(a)) == pytest.approx(1)

    @pytest.mark.parametrize("name", ["Qcb", "Qcv"])
    def test_the_sources_themselves_are_best(self, images, name):
        f, a, _ = (tensor(x) for x in images)
        best = value(name, a, a, a)
        assert best == pytest.approx(1.0 if name == "Qcb" else 0.0, abs=1e-9)
        assert (value(name, f, a, a) < best) == (name == "Qcb")

    def test_two_sources_are_asked_for(self, images):
        f, a, b = (tensor(x) for x in images)
        with pytest.raises(ValueError, match="two sources, got 3"):
            value("Qw", f, a, b, b)

    def test_piqe_rates_noise_lower_than_the_picture(self):
        pytest.importorskip("pypiqe")
        picture = pytest.importorskip("skimage.data").camera()[:256, :256].astype(float)
        noisy = np.clip(picture + np.random.default_rng(0).normal(0, 40, picture.shape), 0, 255)
        good, bad = (value("PIQE", tensor(x), tensor(x), tensor(x)) for x in (picture, noisy))
        assert good < bad


def stretched(z):
    return np.floor((z - z.min()) / (z.max() - z.min()) * 255 + 0.5)


def frequencies(n, factor):
    return np.fft.fftfreq(n) * 2 * n / factor


@pytest.fixture(scope="module")
def colour(images):
    """A colour result and a colour second source; the first one is grey."""
    f, a, b = images
    rng = np.random.default_rng(1)
    f3, b3 = (np.clip(np.stack([z + rng.integers(-30, 31, z.shape) for _ in range(3)], axis=2), 0, 255) for z in (f, b))
    return f3, a, b3


class TestVifb:
    def by_channel(self, colour, function):
        f, a, b = colour
        return np.mean([function(f[..., k], a, b[..., k]) for k in range(3)])

    def test_cross_entropy(self, colour):
        def one(f, a, b):
            p, *rest = (np.bincount(z.astype(int).ravel(), minlength=256) / z.size for z in (f, a, b))
            return sum(q[k] * math.log2(q[k] / p[k]) for q in rest for k in range(256) if q[k] and p[k]) / 2

        check("vifb.CE", colour, self.by_channel(colour, one))

    def test_mutual_information_of_stretched_images(self, colour):
        def mutual(x, y):
            joint = np.histogram2d(stretched(x).ravel(), stretched(y).ravel(), bins=256, range=[[0, 256]] * 2)[0]
            joint /= joint.sum()
            outer = joint.sum(1)[:, None] * joint.sum(0)
            return (joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum()

        check("vifb.MI", colour, self.by_channel(colour, lambda f, a, b: mutual(a, f) + mutual(b, f)))

    def test_spatial_frequency_runs_across_the_seams(self, colour):
        f = np.concatenate([colour[0][..., k] for k in range(3)], axis=1)
        total = (np.diff(f, axis=0) ** 2).sum() + (np.diff(f, axis=1) ** 2).sum()
        check("vifb.SF", colour, math.sqrt(total / f.size))

    def test_errors_shrink_with_the_size(self, colour):
        def rmse(f, a, b):
            return sum(math.sqrt(((x - f) ** 2).sum()) / f.size for x in (a / 1, b / 1)) / 2

        check("vifb.RMSE", colour, self.by_channel(colour, rmse))
        psnr = self.by_channel(colour, lambda *z: 20 * math.log10(255 / math.sqrt(rmse(*z))))
        check("vifb.PSNR", colour, psnr)

    def test_gradients(self, colour):
        def ag(f, a, b):
            gy, gx = np.gradient(f)
            return np.sqrt((gx**2 + gy**2) / 2).sum() / ((f.shape[0] - 1) * (f.shape[1] - 1))

        def ei(f, a, b):
            z = np.pad(f, 1, "edge")
            kernel = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])
            return np.hypot(correlate2d(z, kernel, "valid"), correlate2d(z, kernel.T, "valid")).mean()

        check("vifb.AG", colour, self.by_channel(colour, ag))
        check("vifb.EI", colour, self.by_channel(colour, ei))

    def test_means_over_channels(self, colour):
        def entropy(f, a, b):
            p = np.bincount(f.astype(int).ravel()) / f.size
            return -(p[p > 0] * np.log2(p[p > 0])).sum()

        check("vifb.EN", colour, self.by_channel(colour, entropy))
        check("vifb.SD", colour, self.by_channel(colour, lambda f, a, b: f.std()))
        w = gauss(11, 1.5)
        check(
            "vifb.SSIM",
            colour,
            self.by_channel(colour, lambda f, a, b: sum(ssim(f, x, w, C1, C2).mean() for x in (a, b))),
        )

    def test_qcb(self, colour):
        def one(f, a, b):
            def masked(z):
                v, u = np.meshgrid(frequencies(HEIGHT, 30), frequencies(WIDTH, 30), indexing="ij")
                r2 = u**2 + v**2
                keep = np.exp(-r2 / 15.3870**2) - 0.7622 * np.exp(-r2 / 1.3456**2)
                seen = np.fft.ifft2(np.fft.fft2(stretched(z)) * keep).real
                x = np.arange(-15, 16)
                fine, coarse = (
                    convolve2d(seen, np.exp(-(x[:, None] ** 2 + x**2) / (2 * s * s)) / (2 * math.pi * s * s), "same")
                    for s in (2, 4)
                )
                c = abs(fine / coarse - 1)
                return c**3 / (c**2 + 1e-4)

            cf, ca, cb = (masked(z) for z in (f, a, b))
            share = ca**2 / (ca**2 + cb**2)
            keep_a, keep_b = (np.minimum(c, cf) / np.maximum(c, cf) for c in (ca, cb))
            return (share * keep_a + (1 - share) * keep_b).mean()

        check("vifb.Qcb", colour, self.by_channel(colour, one), rel=1e-7)

    def test_qcv(self, colour):
        def one(f, a, b):
            v, u = np.meshgrid(frequencies(HEIGHT, 8), frequencies(WIDTH, 8), indexing="ij")
            r = np.hypot(u, v)
            keep = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
            top = bottom = 0.0
            for source in (a, b):
                x = stretched(source)
                kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
                g = np.hypot(correlate2d(x, kernel, "same"), correlate2d(x, kernel.T, "same"))
                seen = np.fft.ifft2(np.fft.fft2(x - stretched(f)) * keep).real
                for i in range(0, HEIGHT, 16):
                    for j in range(0, WIDTH, 16):
                        saliency = (g[i : i + 16, j : j + 16] ** 5).sum()
                        top += saliency * (seen[i : i + 16, j : j + 16] ** 2).sum() / 256
                        bottom += saliency
            return top / bottom

        check("vifb.Qcv", colour, self.by_channel(colour, one), rel=1e-7)

    def test_a_grey_result_is_measured_against_luma(self, images, colour):
        f, a, b3 = images[0], images[1], colour[2]
        grey = luma(tensor(b3))
        assert value("vifb.SSIM", tensor(f), tensor(a), tensor(b3)) == value("vifb.SSIM", tensor(f), tensor(a), grey)


class TestLinfeng:
    def test_sd_keeps_what_saturating_integers_keep(self, images):
        f = images[0].astype(np.uint8)
        deviation = np.clip(np.floor(f - f.mean() + 0.5), 0, 255)
        check("linfeng.SD", images, math.sqrt(np.minimum(deviation**2, 255).mean()))

    def test_mi_merges_the_two_brightest_levels_in_the_joint_histogram(self, images):
        f, a, b = (x.astype(int) for x in images)
        assert (b == 255).any()

        def entropy(x):
            p = np.unique(x, return_counts=True)[1] / x.size
            return -(p * np.log2(p)).sum()

        joint = [entropy(np.minimum(f, 254) * 256 + np.minimum(x, 254)) for x in (a, b)]
        check("linfeng.MI", images, 2 * entropy(f) + entropy(a) + entropy(b) - sum(joint))

    def test_qabf_is_near_the_one_on_grey_levels(self, images):
        tensors = [tensor(x) for x in images]
        ours, theirs = value("linfeng.Qabf", *tensors), value("cddfuse.Qabf", *tensors)
        assert ours == pytest.approx(theirs, rel=0.02)

    def test_vif_saturates_at_the_finest_scale_alone(self, generator):
        f, a, b = (torch.randint(0, 16, (1, 1, 64, 72), generator=generator) / 255 for _ in range(3))
        assert value("linfeng.VIF", f, a, b) == pytest.approx(value("cddfuse.VIFF", f, a, b))  # 15² < 255
        bright = [x + 100 / 255 for x in (f, a, b)]
        assert value("linfeng.VIF", *bright) != pytest.approx(value("cddfuse.VIFF", *bright), rel=0.01)

    def test_ssim_of_doubles(self, images):
        f, a, b = (np.pad(x, 5, "edge") for x in images)
        w = gauss(11, 1.5)
        check("linfeng.SSIM", images, np.mean([ssim(f, x, w, 1e-4, 9e-4).mean() for x in (a, b)]), rel=1e-6)


class TestIvifZoo:
    def test_vif_with_windows_off_centre_and_zero_borders(self, images):
        def vif(reference, distorted):
            kept = lost = 0.0
            r, d = reference, distorted
            for size in (17, 9, 5, 3):
                at = np.linspace(-size // 2, size // 2, size)
                w = np.exp(-(at**2) / (2 * (size / 5) ** 2))
                w /= w.sum()

                def mean(z, w=w):
                    return correlate1d(correlate1d(z, w, axis=0, mode="constant"), w, axis=1, mode="constant")

                if size < 17:
                    r, d = mean(r)[::2, ::2], mean(d)[::2, ::2]
                mr, md = mean(r), mean(d)
                vr, vd = np.maximum(mean(r * r) - mr**2, 0), np.maximum(mean(d * d) - md**2, 0)
                c = mean(r * d) - mr * md
                g = c / (vr + 1e-10)
                rest = vd - g * c
                rest[vr < 1e-10], g[vr < 1e-10] = vd[vr < 1e-10], 0
                vr[vr < 1e-10] = 0
                g[vd < 1e-10] = rest[vd < 1e-10] = 0
                rest[g < 0], g[g < 0] = vd[g < 0], 0
                kept += np.log10(1 + g**2 * vr / (np.maximum(rest, 1e-10) + 2)).sum()
                lost += np.log10(1 + vr / 2).sum()
            return kept / lost

        f, a, b = images
        check("ivif_zoo.VIF", images, vif(a, f) + vif(b, f), rel=1e-7)

    def test_ssim_of_levels_times_255(self, images):
        f, a, b = images
        w = gauss(11, 1.5)
        check("ivif_zoo.SSIM", images, sum(ssim(f * 255, x * 255, w, C1, C2).mean() for x in (a, b)), rel=1e-6)

    def test_psnr_is_48_decibels_too_high(self, images):
        tensors = [tensor(x) for x in images]
        assert value("ivif_zoo.PSNR", *tensors) - value("PSNR", *tensors) == pytest.approx(20 * math.log10(255))

    def test_entropy_is_kept_off_log_0(self, images):
        p = np.bincount(images[0].astype(int).ravel(), minlength=256) / images[0].size
        check("ivif_zoo.EN", images, -(p * np.log2(p + 1e-7)).sum())

    def test_ms_ssim_pads_odd_sizes(self, generator):
        f, a = (torch.randint(0, 256, (1, 1, 161, 175), generator=generator) / 255 for _ in range(2))
        assert value("ivif_zoo.MS_SSIM", a, a, a) == pytest.approx(2.0)
        assert 0 <= value("ivif_zoo.MS_SSIM", f, a, a) < 2
        small = f[..., :160, :]
        assert math.isnan(value("ivif_zoo.MS_SSIM", small, small, small))


def test_images_of_a_batch_are_measured_apart(images):
    f, a, b = (torch.cat([tensor(x), 1 - tensor(x) / 2]) for x in images)
    for name in get_registry().names("metric"):
        if name == "PIQE":
            continue
        metric = get_registry().create("metric", name)
        both = metric(f, make_sources(a, b))
        for i in range(2):
            alone = metric(f[i : i + 1], make_sources(a[i : i + 1], b[i : i + 1]))
            torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-9, atol=1e-12, equal_nan=True)
