"""A study in a real browser: two made-up voters, whose answers are known, by keyboard and by mouse."""

from collections.abc import Iterator

import numpy as np
import pytest

from browser import TOKEN, expect, needs_chromium, opened, served

pytest.importorskip("uvicorn", reason="the page needs the extra serve")
from fusionkit.judging.study import all_votes, make_study, open_key, open_study, place_of_key
from fusionkit.judging.tally import tally
from fusionkit.server.study import make_study_app
from fusionkit.writing import write_image

pytestmark = needs_chromium
SCENES, ARROWS = 9, {"A": "ArrowLeft", "B": "ArrowRight", "=": "ArrowDown"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three methods on nine scenes: 27 comparisons and 3 checks."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    for scene in range(SCENES):
        for name in ("ir", "vis", "one", "two", "three"):
            image = rng.random((30, 40, 1 if name == "ir" else 3)).astype(np.float32)
            write_image(folder / name / f"{scene}.png", image, "8")
    methods = {name: folder / name for name in ("one", "two", "three")}
    made = make_study(methods, [folder / "ir", folder / "vis"], folder / "study")
    assert (made.sheets, made.checks) == (27, 3)
    return folder / "study"


@pytest.fixture(scope="module")
def address(study) -> Iterator[str]:
    with served(make_study_app(study, TOKEN, frozenset({"127.0.0.1"}))) as place:
        yield place


@pytest.fixture
def page(address):
    with opened(address, address, "blob:") as page:
        yield page
        assert not page.problems


def begin(page, name):
    page.fill("#viewer", name)
    page.press("#viewer", "Enter")
    page.wait_for_selector("body[data-sheet]")


def sheet_of(page):
    return page.locator("body").get_attribute("data-sheet")


def right_answer(sides, best=("one", "two", "three")):
    if sides.check:
        return {"A": "B", "B": "A"}[sides.check]
    return "A" if best.index(sides.a) < best.index(sides.b) else "B"


def vote(page, choice, *, mouse):
    """Vote, and wait for the next sheet or the end."""
    before = sheet_of(page)
    if mouse:
        page.click(f'[data-choice="{choice}"]')
    else:
        page.keyboard.press(ARROWS[choice])
    page.wait_for_function(
        "n => document.body.dataset.sheet !== n || !document.getElementById('end').hidden", arg=before
    )


def test_two_voters_with_known_answers(page, address, study):
    key = open_key(place_of_key(study), open_study(study))
    for name, mouse in (("keys", False), ("mouse", True)):
        page.goto(address)
        begin(page, name)
        expect(page.locator("#place")).to_have_text("1 of 30")
        for _ in range(30):
            sides = key.sheets[sheet_of(page)]
            even = name == "mouse" and not sides.check and {sides.a, sides.b} == {"two", "three"}
            vote(page, "=" if even else right_answer(sides), mouse=mouse)
        expect(page.locator("#end")).to_be_visible()
    found = tally(key, all_votes(study))
    assert [(v.name, v.votes, v.passed, v.counts) for v in found.viewers] == [
        ("keys", 27, 3, True),
        ("mouse", 27, 3, True),
    ]
    rows = {(row.first, row.second): (row.wins, row.losses, row.even) for row in found.compared}
    assert rows == {("one", "two"): (18, 0, 0), ("one", "three"): (18, 0, 0), ("two", "three"): (9, 0, 9)}
    assert [s.method for s in found.strengths] == ["one", "two", "three"]


def test_going_on_later_changing_a_vote_and_a_reason(page, address, study):
    begin(page, "later")
    first = sheet_of(page)
    page.fill("#reason", "sharper, brighter")
    page.press("#reason", "Enter")
    vote(page, "A", mouse=False)
    page.goto(address)
    begin(page, "later")
    expect(page.locator("#place")).to_have_text("2 of 30")
    page.keyboard.press("Backspace")
    expect(page.locator("#place")).to_have_text("1 of 30")
    assert sheet_of(page) == first
    expect(page.locator("#answers .given")).to_have_attribute("data-choice", "A")
    vote(page, "B", mouse=True)
    own = [(v.sheet, v.choice, v.reason) for v in all_votes(study) if v.viewer == "later"]
    assert own == [(first, "A", "sharper, brighter"), (first, "B", "")]


def test_arrows_in_the_reason_move_the_cursor_and_do_not_vote(page, study):
    begin(page, "typing")
    before = sheet_of(page)
    page.fill("#reason", "ab")
    page.press("#reason", "ArrowLeft")
    page.press("#reason", "Backspace")
    assert page.input_value("#reason") == "b"
    assert sheet_of(page) == before


def test_both_pictures_zoom_together(page):
    begin(page, "zoom")
    page.locator(".frame").first.hover()
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.getElementById('a').style.transform.includes('scale(2.7')")
    shown = [page.locator(side).evaluate("e => e.style.transform") for side in ("#a", "#b")]
    assert shown[0] == shown[1]
    page.keyboard.press("0")
    assert "scale(1)" in page.locator("#b").evaluate("e => e.style.transform")


def test_nothing_of_the_key_is_served_and_a_bad_name_is_told(page, address):
    for path in ("study.key.json", "images/study.key.json", "images/..%2fstudy.json", "../study.json"):
        assert page.request.get(address + path).status == 404
    answer = page.request.get(address + "api/sheets?viewer=a/b")
    assert answer.status == 422
    assert "letters" in answer.json()["error"]
    vote = {"viewer": "x", "sheet": "9999", "choice": "A"}
    assert page.request.post(address + "api/vote", data=vote).status == 422
