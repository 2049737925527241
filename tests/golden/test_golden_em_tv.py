"""The released form of em_tv_paper against DDFM's and RFfusion's EM_onestep.py."""

import pytest
import torch
from golden_data import Golden, cases, deviation

from fusionkit.contracts import Sources
from fusionkit_reproductions.em_tv_paper import EMState, EMTVPaper, EMTVPaperOptions, em_step, prox_tv

BOUND = 1e-5


def calls(golden: Golden):
    """Prefix of the arrays and the estimate of each successive call."""
    count = golden.config.get("calls", 1)
    return [(f"call{k}_", golden[f"call{k}_f_in"]) for k in range(count)] if count > 1 else [("", golden["f_pre"])]


@pytest.mark.parametrize("golden", cases("em_tv/em_*.json"))
def test_every_variable_of_every_call(golden: Golden, check) -> None:
    infrared, visible = golden["I"], golden["V"]
    ones = torch.ones(len(infrared), 1, 1, 1)
    state = EMState(ones, ones, None, None)
    for prefix, estimate in calls(golden):
        step = em_step(
            estimate - visible, infrared - visible, state, golden.config["lamb"], golden.config["rho"], "released"
        )
        state = step.state
        # there, tau is a mean over the batch; here, over each image
        state = state._replace(tau_a=state.tau_a.mean(0, True) * ones, tau_b=state.tau_b.mean(0, True) * ones)
        ours = {
            "F": infrared - step.x,
            "C": step.c,
            "D": step.d,
            "H": step.h,
            "F1": state.f1,
            "F2": state.f2,
            "tau_a": state.tau_a[0, 0, 0, 0],
            "tau_b": state.tau_b[0, 0, 0, 0],
        }
        for name, value in ours.items():
            check(f"em_tv {name}", deviation(value, golden[prefix + name]), BOUND)


@pytest.mark.parametrize("golden", cases("em_tv/em_*.json"))
def test_prior_carries_its_state(golden: Golden, check) -> None:
    if golden.config["batch"] > 1 and golden.config.get("calls", 1) > 1:
        pytest.skip("the published means run over the batch")
    images = (golden["I"], golden["V"])
    sources = Sources(images, images)
    prior = EMTVPaper(EMTVPaperOptions(form="released", lam=golden.config["lamb"], rho=golden.config["rho"]))
    state = prior.start(sources)
    for prefix, estimate in calls(golden):
        fused, state = prior.correct(estimate, sources, state, 0.0)
        check("em_tv prior", deviation(fused, golden[prefix + "F"]), BOUND)


@pytest.mark.parametrize("golden", cases("em_tv/prox_tv.json"))
def test_prox_tv(golden: Golden, check) -> None:
    for shape in {name.rpartition("_")[0] for name in golden.arrays}:
        z, f1, f2, alone, carried = (golden[f"{shape}_{k}"] for k in ("X", "F1", "F2", "H0", "H"))
        check("prox_tv", deviation(prox_tv(z, None, None), alone), BOUND)
        check("prox_tv", deviation(prox_tv(z, f1, f2, "released"), carried), BOUND)
