"""Plug-ins: good, broken, clashing and misspelt ones, installed side by side."""

import pytest

from fusionkit.contracts import Prior
from fusionkit.errors import BrokenPlugin, OptionError, PluginClash, UnknownPlugin
from fusionkit.registry.loading import load_registry
from harness import run_cli

GOOD = '''
import fusionkit
from fusionkit.contracts import Options, Prior

class GoodOptions(Options):
    gain: float = 1.0

class Good(Prior):
    """Scales the first source."""
    Options = GoodOptions
    reads_x0 = False
    def correct(self, x0, sources, state, sigma):
        return (sources.luma[0] * self.options.gain).clamp(0, 1), None

@fusionkit.hookimpl
def fusionkit_priors():
    yield fusionkit.PriorRecord(name="good", summary="a good one", target="fk_good:Good")
'''
CLASH = GOOD.replace("fk_good", "fk_clash")
IMPORT_ERROR = "import a_package_that_does_not_exist\n"
TYPO = GOOD.replace("def fusionkit_priors", "def fusionkit_prior")
WRONG_RECORD = GOOD.replace("PriorRecord", "MetricRecord")
RAISES = GOOD.replace("    yield", "    raise RuntimeError('no licence')\n    yield")
BROKEN_TARGET = GOOD.replace('target="fk_good:Good"', 'target="fk_target:Missing"').replace('"good"', '"lost"')
NOT_A_PRIOR = GOOD.replace("(Prior)", "").replace('"good"', '"odd"').replace("fk_good:", "fk_odd:")
INCOMPLETE = GOOD.replace("def correct", "def corect").replace('"good"', '"half"').replace("fk_good:", "fk_half:")


def load(site, **dists):
    for dist, code in dists.items():
        site.add(dist.replace("_", "-"), code)
    return load_registry(restriction=",".join(["imagefusionkit", *(d.replace("_", "-") for d in dists)]))


def test_a_third_partys_prior_is_found_built_and_attributed(site):
    registry = load(site, fk_good=GOOD)
    plugin = registry.find("prior", "good")
    assert (plugin.distribution, plugin.version) == ("fk-good", "1.0")
    prior = registry.create("prior", "good", {"gain": "0.5"})
    assert isinstance(prior, Prior)
    assert prior.options.gain == 0.5
    assert registry.failures == []


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (IMPORT_ERROR, "No module named 'a_package_that_does_not_exist'"),
        (TYPO, "fusionkit_prior is no hook; did you mean fusionkit_priors?"),
        (WRONG_RECORD, "fusionkit_priors yielded MetricRecord, expected PriorRecord"),
        (RAISES, "RuntimeError: no licence"),
        ("", "implements no hook"),
    ],
)
def test_a_broken_package_is_named_with_its_cause_and_harms_nobody(site, code, cause):
    registry = load(site, fk_broken=code, fk_good=GOOD)
    (failure,) = registry.failures
    assert failure.origin == "fk-broken 1.0"
    assert cause in failure.cause
    assert registry.find("prior", "good").distribution == "fk-good"
    assert registry.create("prior", "average") is not None


def test_a_clash_is_an_error_only_when_the_name_is_chosen(site):
    registry = load(site, fk_good=GOOD, fk_clash=CLASH)
    assert registry.create("prior", "em_tv") is not None
    with pytest.raises(PluginClash, match=r"fk-clash 1\.0 and fk-good 1\.0: choose fk-clash:good or fk-good:good"):
        registry.find("prior", "good")
    assert registry.find("prior", "fk-good:good").distribution == "fk-good"


def test_an_unknown_name_is_told_the_nearest_and_where_all_are(site):
    registry = load(site, fk_broken=IMPORT_ERROR)
    with pytest.raises(UnknownPlugin) as caught:
        registry.find("prior", "em-tv")
    message = str(caught.value)
    assert "did you mean 'em_tv'?" in message
    assert "`fusionkit plugins list` names all" in message
    assert "fk-broken 1.0" in message


@pytest.mark.parametrize(
    ("code", "name", "reason"),
    [
        (BROKEN_TARGET, "lost", "cannot be imported from fk_target:Missing"),
        (NOT_A_PRIOR, "odd", "must be a class derived from fusionkit.contracts.Prior"),
        (INCOMPLETE, "half", "does not implement correct"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_when_chosen(site, code, name, reason):
    registry = load(site, **{f"fk_{ {'lost': 'target', 'odd': 'odd', 'half': 'half'}[name] }": code})
    with pytest.raises(BrokenPlugin, match=reason):
        registry.create("prior", name)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lan": 1}, r"no option 'lan'; did you mean 'lam'\?"),
        ({"lam": "much"}, r"lam=much: expected a number > 0$"),
        ({"lam": -1}, r"lam=-1: expected a number > 0$"),
        ({"recompose": "x"}, r"recompose=x: expected auto, v_plus_x or i_minus_x$"),
    ],
)
def test_a_wrong_option_says_what_is_possible(options, reason):
    with pytest.raises(OptionError, match=reason) as caught:
        load_registry(restriction="imagefusionkit").create("prior", "em_tv_paper", options)
    assert str(caught.value).startswith("prior em_tv_paper: ")


def test_the_environment_restricts_what_is_loaded(site):
    site.add("fk-good", GOOD)
    assert "good" not in load_registry(restriction="imagefusionkit").names("prior")
    assert "good" in load_registry(restriction="fusionkit, FK-Good").names("prior")
    assert load_registry(restriction="").plugins == []


def test_the_command_line_lists_shows_checks_and_runs_it(site, pair_files, tmp_path):
    site.add("fk-good", GOOD)
    site.add("fk-broken", IMPORT_ERROR)
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,fk-good,fk-broken"}
    listed = run_cli("plugins", "list", env=env)
    assert listed.returncode == 0
    assert "fk-good 1.0" in listed.stdout
    assert "failed to load: fk-broken 1.0 (main)" in listed.stderr
    shown = run_cli("plugins", "show", "good", env=env)
    assert "gain" in shown.stdout
    assert "number, default 1.0" in shown.stdout
    assert run_cli("plugins", "check", "fk-good", env=env).returncode == 0
    checked = run_cli("plugins", "check", env=env)
    assert checked.returncode == 2
    assert "fk-broken" in checked.stderr
    result = run_cli(
        "run",
        "--prior",
        "good",
        "--backbone",
        "identity",
        "--prior-opt",
        "gain=0.5",
        *pair_files,
        "-o",
        tmp_path / "out.png",
        env=env,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.png").exists()
