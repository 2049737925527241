"""The baselines."""

import torch

from fusionkit.contracts import Options
from fusionkit_priors.baselines import Average, Keep, Maximum
from harness import correct, random_sources


def test_baselines(generator):
    sources = random_sources(generator, count=3)
    x0 = torch.rand(1, 1, 24, 40, generator=generator)
    torch.testing.assert_close(correct(Average(Options()), x0, sources), sum(sources.luma) / 3)
    torch.testing.assert_close(correct(Maximum(Options()), x0, sources), torch.cat(sources.luma).amax(0, keepdim=True))
    assert correct(Keep(Options()), x0, sources) is x0
