"""What records tell the core, which knows no plug-in by its name."""

from fusionkit.comparison import suitable
from fusionkit.extras import DISTRIBUTION
from fusionkit.registry.kinds import METHOD
from fusionkit.registry.loading import get_registry
from fusionkit.registry.records import PriorRecord
from fusionkit.scene import SCENE_KINDS
from fusionkit.scoring.baselines import baseline_rows
from fusionkit.scoring.metrics import load_metrics

PRIORS = [p.record for p in get_registry().of_kind("prior") if p.distribution == DISTRIBUTION]


def test_tables_have_their_rows_in_their_places():
    expected = ["average", "max", "first source", "last source", "released RFfusion (closed form)"]
    assert list(baseline_rows()) == expected
    assert [label for label, row in baseline_rows().items() if row.alone] == ["first source", "last source"]


def test_usual_metrics_have_their_order():
    assert list(load_metrics(None, None)) == [
        *("EN", "SD", "SF", "AG", "MI", "NMI", "CC", "SCD", "VIF", "Qabf", "SSIM", "PSNR", "MSE")
    ]


def test_a_comparison_shows_what_suits_the_scene_and_no_yardstick():
    exposure, focus = (set(suitable(scene)) for scene in ("exposure", "focus"))
    assert "mertens" in exposure - focus
    assert "focus" in focus - exposure
    assert {"none", "source", "released_rffusion", "em_tv_paper"}.isdisjoint(exposure | focus)
    assert {"em_tv", "laplacian", "average"} <= exposure & focus


def test_kinds_of_scene_that_priors_name_exist():
    assert {scene for record in PRIORS for scene in record.scenes} <= set(SCENE_KINDS)


def test_a_record_of_one_scene_suits_no_other():
    record = PriorRecord(name="stars", summary="for focus alone", target="stars:Stars", scenes=("focus",))
    assert [scene for scene in ("focus", "heat") if record.suits(scene)] == ["focus"]


def test_what_takes_the_place_of_a_part_exists():
    for kind in METHOD.values():
        assert kind.neutral in get_registry().names(kind.name)


def test_one_reader_takes_what_no_other_knows():
    assert [p.record.name for p in get_registry().of_kind("reader") if p.record.fallback] == ["pillow"]
