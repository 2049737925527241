"""Studies: what viewers see, what the key says, and what the votes are found to say."""

import csv
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from fusionkit.cli.judge import _print
from fusionkit.cli.parameters import named_folders
from fusionkit.errors import InputError, NoEffect, OptionError, OutputError
from fusionkit.judging.study import EVEN, Key, Sides, Vote, all_votes, keep_vote, make_study, open_key, open_study
from fusionkit.judging.study import place_of_key as key_of
from fusionkit.judging.tally import tally
from fusionkit.reading import read_image
from fusionkit.writing import write_image
from harness import run_cli

SCENES = [f"scene{i}" for i in range(8)]


@pytest.fixture
def folders(tmp_path):
    """Two folders of sources; three methods, of which `grey` has no colour and `few` no first scene."""
    rng = np.random.default_rng(0)
    for scene in SCENES:
        for folder, channels in (("ir", 1), ("vis", 3), ("good", 3), ("grey", 1), ("few", 3)):
            if (folder, scene) != ("few", "scene0"):
                image = np.repeat(rng.random((24, 32, channels)), 1, axis=0).astype(np.float32)
                write_image(tmp_path / folder / f"{scene}.png", image, "8")
    return tmp_path


def made(folders, *methods, **options):
    output = folders / "study"
    found = make_study({name: folders / name for name in methods}, [folders / "ir", folders / "vis"], output, **options)
    return found, (study := open_study(output)), open_key(key_of(output), study), output


class TestMaking:
    def test_every_pair_of_methods_on_every_scene_that_both_have(self, folders):
        found, study, key, _ = made(folders, "good", "grey", "few")
        seen = [(s.scene, *sorted((s.a, s.b))) for s in key.sheets.values() if not s.check]
        wanted = {(scene, *pair) for scene in SCENES for pair in itertools.combinations(("few", "good", "grey"), 2)}
        assert sorted(seen) == sorted(w for w in wanted if w[0] != "scene0" or "few" not in w)
        assert found.sheets == len(seen)
        assert [sheet.number for sheet in study.sheets] == list(key.sheets)

    def test_sides_are_shuffled_and_a_seed_gives_the_same_study(self, folders):
        sides = []
        for seed in (1, 1, 2):
            _, study, key, output = made(folders, "good", "few", seed=seed)
            sides.append([(s.scene, s.a) for s in key.sheets.values() if not s.check])
            output.rename(folders / f"other{len(sides)}")
            key_of(output).unlink()
        assert sides[0] == sides[1] != sides[2]
        assert {side for _, side in sides[0]} == {"good", "few"}

    def test_the_pictures_are_the_methods_and_nothing_in_the_study_names_them(self, folders):
        _, study, key, output = made(folders, "good", "few")
        for sheet in study.sheets:
            sides = key.sheets[sheet.number]
            for side, method in (("a", sides.a), ("b", sides.b)):
                shown = read_image(output / getattr(sheet, side)).pixels
                same = np.array_equal(shown, read_image(folders / method / f"{sides.scene}.png").pixels)
                assert same == (sides.check != side.upper())
        text = (output / "study.json").read_text()
        assert "good" not in text
        assert "few" not in text
        assert not list(output.glob("*key*"))

    def test_both_are_grey_where_one_is(self, folders):
        _, study, _, output = made(folders, "good", "grey")
        assert {read_image(output / getattr(s, side)).channels for s in study.sheets for side in "ab"} == {1}

    def test_checks_spoil_one_side_of_one_sheet_in_ten(self, folders):
        found, study, key, output = made(folders, "good", "grey", "few")
        checks = {number: s for number, s in key.sheets.items() if s.check}
        assert len(checks) == found.checks == round(found.sheets / 10)
        for number, sides in checks.items():
            means = {side: read_image(output / f"images/{number}-{side}.png").pixels.mean() for side in "ab"}
            spoilt = sides.check.lower()
            assert means[spoilt] < 0.7 * means["b" if spoilt == "a" else "a"]
            assert sides.a == sides.b

    def test_one_against_others_and_a_number_of_sheets_spread_evenly(self, folders):
        _, _, key, _ = made(folders, "good", "grey", "few", against="few", most=6)
        seen = [frozenset((s.a, s.b)) for s in key.sheets.values() if not s.check]
        assert {pair: seen.count(pair) for pair in seen} == {frozenset(("few", m)): 3 for m in ("good", "grey")}

    def test_sheets_show_sources_above_both(self, folders):
        _, study, _, output = made(folders, "good", "few", most=1, sheets=True)
        height, width = read_image(output / "sheets" / f"{study.sheets[0].number}.png").pixels.shape[:2]
        assert width > 2 * 32
        assert height > 2 * 24

    def test_what_cannot_be_compared_is_told(self, folders):
        write_image(folders / "few" / "scene3.png", np.zeros((9, 9, 1), np.float32), "8")
        (folders / "few" / "scene4.png").write_bytes(b"broken")
        (folders / "few" / "alone.png").write_bytes((folders / "few" / "scene1.png").read_bytes())
        found, *_ = made(folders, "good", "few")
        assert found.sheets == 5
        text = "\n".join(found.failures)
        assert "scene3: results differ in size" in text
        assert "scene4" in text
        assert "alone.png" in text

    @pytest.mark.parametrize(
        ("methods", "options", "error", "words"),
        [
            (("good",), {}, OptionError, "needs two methods"),
            (("good", "few"), {"against": "other"}, OptionError, "none of the methods good, few"),
            (("good", "few"), {"against": "few"}, NoEffect, "no effect on two methods"),
        ],
    )
    def test_refused(self, folders, methods, options, error, words):
        with pytest.raises(error, match=words):
            made(folders, *methods, **options)
        assert not (folders / "study").exists()

    def test_a_study_is_not_overwritten(self, folders):
        made(folders, "good", "few", most=1)
        with pytest.raises(OutputError, match="exists already"):
            made(folders, "good", "few", most=1)

    @pytest.mark.parametrize("place", [".", "/"])
    def test_a_folder_without_a_name_is_not_overwritten(self, place):
        with pytest.raises(OutputError, match="exists already"):
            make_study({"a": Path("a"), "b": Path("b")}, [], Path(place))

    def test_the_key_of_another_study_is_refused(self, folders):
        _, study, key, output = made(folders, "good", "few", "grey")
        (folders / "short.json").write_text(key.model_copy(update={"sheets": {}}).model_dump_json())
        (folders / "renamed.json").write_text(key.model_copy(update={"methods": ("x", "y", "z")}).model_dump_json())
        for name in ("short.json", "renamed.json"):
            with pytest.raises(InputError, match="key of another study"):
                open_key(folders / name, study)


class TestVotes:
    def test_kept_and_read_again(self, tmp_path):
        keep_vote(tmp_path, Vote(viewer="Anna B.", sheet="0001", choice="A", reason="sky, clear"))
        keep_vote(tmp_path, Vote(viewer="Anna B.", sheet="0002", choice=EVEN))
        (tmp_path / "mine.csv").write_text("viewer,sheet,choice\nme,3,b\n")
        votes = all_votes(tmp_path, [tmp_path / "mine.csv"])
        assert [(v.viewer, v.sheet, v.choice, v.reason) for v in votes] == [
            ("Anna B.", "0001", "A", "sky, clear"),
            ("Anna B.", "0002", EVEN, ""),
            ("me", "0003", "B", ""),
        ]

    @pytest.mark.parametrize(
        "text", ["", "me,0003,A\n", "viewer;sheet;choice\nme;3;A\n", "Viewer,Sheet,Choice\nme,3,A\n"]
    )
    def test_a_table_without_its_columns_is_refused(self, tmp_path, text):
        (tmp_path / "v.csv").write_text(text)
        with pytest.raises(InputError, match="line 1: these columns are missing"):
            all_votes(tmp_path, [tmp_path / "v.csv"])

    def test_a_reason_is_not_cut_at_its_commas(self, tmp_path):
        (tmp_path / "v.csv").write_text("viewer,sheet,choice,reason\nme,3,A,sharp, and bright\n")
        with pytest.raises(InputError, match="line 2: has too many columns"):
            all_votes(tmp_path, [tmp_path / "v.csv"])

    @pytest.mark.parametrize("row", ["me,3,C", "a/b,3,A", ",3,A", "me,3"])
    def test_a_row_that_is_no_vote_is_named(self, tmp_path, row):
        (tmp_path / "v.csv").write_text(f"viewer,sheet,choice\n{row}\n")
        with pytest.raises(InputError, match="line 2"):
            all_votes(tmp_path, [tmp_path / "v.csv"])


def key_for(methods, scenes, checks=0):
    """Every two methods on every scene, the first on the left in every other sheet."""
    rng, sheets = random.Random(0), {}
    for scene in range(scenes):
        for pair in itertools.combinations(methods, 2):
            a, b = rng.sample(pair, 2)
            sheets[f"{len(sheets):04d}"] = Sides(scene=str(scene), a=a, b=b)
    for i in range(checks):
        sheets[f"9{i:03d}"] = Sides(scene="0", a=methods[0], b=methods[0], check="AB"[i % 2])
    return Key(methods=tuple(methods), sheets=sheets)


def votes_for(key, viewer, prefers):
    """Votes by what `prefers(sides)` says: a method, or nothing."""
    for number, sides in key.sheets.items():
        liked = prefers(sides)
        yield Vote(viewer=viewer, sheet=number, choice="A" if liked == sides.a else "B" if liked == sides.b else EVEN)


class TestTally:
    def test_wins_of_the_right_method_whatever_its_side(self):
        key = key_for(["x", "y"], 10)
        liked = {str(i): "x" if i < 7 else "y" if i < 9 else None for i in range(10)}
        (row,) = tally(key, votes_for(key, "v", lambda s: liked[s.scene])).compared
        assert (row.first, row.second, row.wins, row.losses, row.even) == ("x", "y", 7, 2, 1)
        assert row.share == pytest.approx(7 / 9)
        z = 1.959964
        centre, n, p = (7 / 9 + z**2 / 18) / (1 + z**2 / 9), 9, 7 / 9
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert (row.low, row.high) == pytest.approx((centre - half, centre + half), abs=1e-5)
        assert row.by_scene[0] < row.share < row.by_scene[1]

    def test_many_votes_on_few_scenes_leave_a_wide_interval(self):
        key = key_for(["x", "y"], 3)
        votes = [v for i in range(40) for v in votes_for(key, f"v{i}", lambda s: "y" if s.scene == "0" else "x")]
        (row,) = tally(key, votes).compared
        assert row.low > 0.55
        assert row.by_scene[0] < 0.4

    def test_strengths_are_those_that_the_votes_were_drawn_from(self):
        truth = {"a": 0.8, "b": 0.5, "c": 0.3}
        key, rng = key_for(list(truth), 400), random.Random(1)
        odds = {m: p / (1 - p) for m, p in truth.items()}

        def drawn(sides):
            return sides.a if rng.random() < odds[sides.a] / (odds[sides.a] + odds[sides.b]) else sides.b

        found = tally(key, votes_for(key, "v", drawn)).strengths
        assert [s.method for s in found] == ["a", "b", "c"]
        scale = np.mean([np.log(odds[s.method]) - np.log(s.share / (1 - s.share)) for s in found])
        for strength in found:
            shifted = np.log(strength.share / (1 - strength.share)) + scale
            assert shifted == pytest.approx(np.log(odds[strength.method]), abs=0.25)
            assert strength.low < strength.share < strength.high

    @pytest.mark.parametrize(("wins", "losses"), [(3, 2), (200, 0), (5000, 1)])
    def test_strengths_are_the_maximum_of_their_likelihood(self, wins, losses):
        """Two methods: ln s solves wins - (wins + losses) / (1 + s^-2) + 1/2 - 1 / (1 + 1/s) = 0, however one-sided."""
        key = key_for(["x", "y"], wins + losses)
        best, worst = tally(key, votes_for(key, "v", lambda s: "x" if int(s.scene) < wins else "y")).strengths
        log = brentq(lambda t: wins - (wins + losses) * expit(2 * t) + 0.5 - expit(t), 0, 50)
        assert best.share == pytest.approx(expit(log), abs=1e-6)
        assert worst.share == pytest.approx(1 - best.share, abs=1e-6)

    def test_an_unbeaten_method_has_a_finite_strength(self):
        key = key_for(["x", "y"], 5)
        best, worst = tally(key, votes_for(key, "v", lambda s: "x")).strengths
        assert 0.5 < best.share < 1
        assert worst.share == pytest.approx(1 - best.share)

    def test_the_last_vote_on_a_sheet_counts(self):
        key = key_for(["x", "y"], 2)
        votes = [*votes_for(key, "v", lambda s: "x"), *votes_for(key, "v", lambda s: "y")]
        (row,) = tally(key, votes).compared
        assert (row.wins, row.losses) == (0, 2)

    def test_who_fails_the_checks_does_not_count(self):
        key = key_for(["x", "y"], 4, checks=4)

        def careful(sides):
            return None

        good = [
            v.model_copy(update={"choice": {"A": "B", "B": "A"}[key.sheets[v.sheet].check]})
            if key.sheets[v.sheet].check
            else v
            for v in votes_for(key, "good", lambda s: "x")
        ]
        left = [Vote(viewer="left", sheet=number, choice="A") for number in key.sheets]
        found = tally(key, [*good, *left])
        assert [(v.name, v.checks, v.passed, v.counts) for v in found.viewers] == [
            ("good", 4, 4, True),
            ("left", 4, 2, False),
        ]
        assert found.compared[0].wins == 4
        with pytest.raises(InputError, match="failed the checks"):
            tally(key, left)

    def test_who_chooses_one_side_whatever_it_shows_does_not_count(self):
        """Sides are shuffled, so a coin explains how often a viewer chose the left one."""
        key = key_for(["x", "y"], 40)
        left = [Vote(viewer="left", sheet=number, choice="A") for number in key.sheets]
        fair = [*votes_for(key, "fair", lambda s: "x")]
        found = tally(key, [*fair, *left])
        assert [(v.name, v.counts) for v in found.viewers] == [("fair", True), ("left", False)]
        assert (found.compared[0].wins, found.compared[0].losses) == (40, 0)
        with pytest.raises(InputError, match="chose one side"):
            tally(key, left)

    def test_one_scene_has_no_interval_over_scenes(self):
        key = key_for(["x", "y"], 1)
        votes = [v for i in range(9) for v in votes_for(key, f"v{i}", lambda s, i=i: "x" if i < 7 else "y")]
        found = tally(key, votes)
        assert np.isnan([*found.compared[0].by_scene, found.strengths[0].low, found.strengths[0].high]).all()
        assert found.compared[0].share == pytest.approx(7 / 9)

    def test_agreement_is_what_the_literature_computes(self):
        """The example of Krippendorff ("Computing Krippendorff's alpha-reliability", 2011), two observers, binary."""
        first, second = "0100000000", "1110010100"
        key = key_for(["x", "y"], 10)
        votes = [
            Vote(viewer=name, sheet=number, choice="AB"[int(given[i])])
            for name, given in (("one", first), ("two", second))
            for i, number in enumerate(key.sheets)
        ]
        found = tally(key, votes)
        assert found.agreement == pytest.approx(0.6)
        assert found.alpha == pytest.approx(0.095, abs=5e-4)

    def test_reasons_name_what_was_preferred(self):
        key = key_for(["x", "y"], 1)
        (number, sides), *_ = key.sheets.items()
        found = tally(key, [Vote(viewer="v", sheet=number, choice="A", reason="sharper")])
        assert found.reasons == (
            {"scene": "0", "viewer": "v", "preferred": sides.a, "to": sides.b, "reason": "sharper"},
        )

    def test_a_vote_on_an_unknown_sheet_is_refused(self):
        with pytest.raises(InputError, match="does not have"):
            tally(key_for(["x", "y"], 1), [Vote(viewer="v", sheet="0077", choice="A")])


@pytest.mark.parametrize("name", ["=good", "a="])
def test_a_method_has_a_name_and_a_folder(name):
    with pytest.raises(OptionError, match="expected NAME=FOLDER"):
        named_folders([name], "--methods")


def test_names_are_shown_as_they_are_and_shares_of_nothing_as_a_dash(folders, capsys):
    _, study, key, _ = made(folders, "good", "few")
    named = Key(methods=("x [v2]", "[red]y"), sheets={n: Sides(scene="s", a="x [v2]", b="[red]y") for n in key.sheets})
    _print(tally(named, [Vote(viewer="me", sheet="0001", choice=EVEN)]))
    shown = capsys.readouterr().out
    assert "x [v2] against [red]y" in shown
    assert "nan" not in shown


def test_the_commands(folders):
    methods = [x for name in ("good", "few") for x in ("--methods", folders / name)]
    result = run_cli("judge", "make", *methods, "--pairs", folders / "ir", folders / "vis", "-o", folders / "study")
    assert result.returncode == 0, result.stderr
    assert "7 comparisons, 1 checks" in result.stdout
    key = json.loads((folders / "study.key.json").read_text())["sheets"]
    with (folders / "v.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["viewer", "sheet", "choice", "reason"])
        for number, sides in key.items():
            choice = {"A": "B", "B": "A"}.get(sides["check"]) or ("A" if sides["a"] == "good" else "B")
            rows.writerow(["me", number, choice, "bright"])
    result = run_cli("judge", "tally", folders / "study", "--votes", folders / "v.csv", "-o", folders / "votes.json")
    assert result.returncode == 0, result.stderr
    assert "good against few" in result.stdout
    assert "1 of 1 checks passed" in result.stdout
    (row,) = json.loads((folders / "votes.json").read_text())["compared"]
    assert (row["wins"], row["losses"]) == (7, 0)
    within = run_cli("judge", "tally", ".", "--votes", "../v.csv", cwd=folders / "study")
    assert "good against few" in within.stdout
    empty = run_cli("judge", "tally", folders / "study")
    assert empty.returncode == 2
    assert len(empty.stderr.splitlines()) == 1
