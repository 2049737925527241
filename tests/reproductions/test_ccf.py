"""The prior ccf."""

import numpy as np
import torch

from fusionkit_reproductions.ccf import CCF
from harness import make, make_sources


def test_ccf_lowers_its_energy_and_moves_weight_to_what_lags(photo):
    sources = make_sources(photo.flip(-1), photo)
    prior = make(CCF)
    state = prior.start(sources)
    x, energies = photo, [float(prior.energy(photo, sources))]
    for _ in range(3):
        x, state = prior.correct(x, sources, state, 0.1)
        energies.append(float(prior.energy(x, sources)))
    assert energies[-1] < energies[1] < energies[0]
    weights = prior._weights(x, state)
    assert weights.shape == (5, 1)
    ratio = (state.last / state.before)[:, 0]
    given = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.2])
    order = np.argsort((weights[:, 0] / given).numpy())
    assert list(order) == list(np.argsort(ratio.clamp(0, 4).numpy()))
