"""The prior wavelet."""

import sys

import pytest

from fusionkit.errors import BrokenPlugin, OptionError
from fusionkit.numerics.window import gaussian_blur
from fusionkit.registry.loading import get_registry
from fusionkit_priors.wavelet import Wavelet
from harness import correct, make, make_sources, psnr


class TestWavelet:
    def test_details_come_from_the_source_that_has_them(self, photo):
        flat = gaussian_blur(photo, 3.0)
        fused = correct(make(Wavelet), photo, make_sources(flat, photo))
        assert psnr(fused, photo) > psnr((flat + photo) / 2, photo) + 6

    def test_an_unknown_wavelet_is_one_line(self):
        with pytest.raises(OptionError, match=r"wavelet='db99'"):
            get_registry().create("prior", "wavelet", {"wavelet": "db99"})

    def test_without_the_package_the_command_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        with pytest.raises(BrokenPlugin, match=r"pip install 'pywavelets>="):
            get_registry().create("prior", "wavelet")
