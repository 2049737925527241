"""Measuring a method."""

import json

import pytest
import torch

from fusionkit.bench import convolution_peak, measure
from fusionkit.method.pipeline import Pipeline
from harness import run_cli


class TestBench:
    def test_noisy_sources_are_cleaned_and_clean_ones_are_not(self):
        clean, noisy = measure(Pipeline(device="cpu"), (64, 96), 2, 1)
        assert (clean.sources, noisy.sources) == ("clean", "noisy")
        assert "restore" not in clean.stages
        assert clean.share is None
        assert noisy.stages["restore"] > 0
        assert 0 < noisy.share < 2
        for found in (clean, noisy):
            assert found.images > 0
            assert found.images * found.seconds == pytest.approx(2)  # a batch of two

    def test_the_peak_is_that_of_a_processor(self):
        assert convolution_peak(torch.device("cpu"), "float32") > 1e8

    def test_programs_get_one_object(self):
        done = run_cli("bench", "--prior", "average", "--size", 48, 64, "--runs", 1, "--json")
        found = json.loads(done.stdout)
        assert [m["sources"] for m in found["measured"]] == ["clean", "noisy"]
        assert found["size"] == [48, 64]
        assert "median" in found["protocol"]
