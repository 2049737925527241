"""Deghosting: what moves in a bracket is shown by one frame; where nothing moves nothing is changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from fusionkit.contracts import Sources
from fusionkit.errors import OptionError
from fusionkit.images.accept import as_picture
from fusionkit.method.pipeline import Pipeline
from fusionkit_plugins.stages.deghost import Deghost, DeghostOptions

LIGHT = (data.coffee()[40:280, 100:420] / 255) ** 2.2
PERSON = (data.astronaut()[20:110, 180:250] / 255) ** 2.2


def bracket(places, stops=1.5, noise=0.003):
    """A bracket, darkest first, of a photograph with another one at these columns; None: without."""
    frames = []
    for k, column in enumerate(places):
        light = LIGHT.copy()
        if column is not None:
            light[80:170, column : column + 70] = PERSON
        light = light * 2.0 ** (stops * (k - len(places) // 2))
        light = light + np.random.default_rng(k).normal(0, noise, light.shape)
        values = (light.clip(0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
        frames.append(as_picture(values, f"frame {k + 1}"))
    return frames


def fuse(pictures, **choices):
    given = {"prior": "mertens", "task": "mef", "backbone": "identity", "restore": "none", "align": "none"}
    return Pipeline(**{**given, "device": "cpu", **choices}).fuse_pictures(pictures, reference=len(pictures) // 2)


def ghost(fused, wanted):
    """Least energy that is left of the fusions with the person at one place."""
    return min(float(np.square(fused - one).sum()) for one in wanted)


@pytest.mark.parametrize("places", [(20, 110, 200), (20, 65, 110, 155, 200)], ids=["at once", "frame by frame"])
def test_a_person_who_walks_is_seen_once(places):
    moving = bracket(places)
    wanted = [fuse(bracket([place] * len(places))).picture.pixels for place in places]
    before, after = fuse(moving), fuse(moving, deghost="auto")
    assert ghost(after.picture.pixels, wanted) < 0.2 * ghost(before.picture.pixels, wanted)
    boxes = np.array([row["box"] for row in after.facts.found["moved"]])
    (left, top), (right, bottom) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    assert left < 40
    assert right > 240
    assert top < 95
    assert bottom > 155
    assert any("of the picture moves" in note for note in after.notes)


@pytest.mark.parametrize("count", [3, 5], ids=["at once", "frame by frame"])
def test_static_scenes_keep_their_bytes(count):
    pictures = bracket([110] * count)
    fused = fuse(pictures, deghost="auto")
    assert np.array_equal(fused.picture.values, fuse(pictures).picture.values)
    assert "moved" not in fused.facts.found


@pytest.mark.parametrize("number", [1, 3])
def test_a_stated_frame_shows_what_moves(number):
    places = (20, 110, 200)
    fused = fuse(bracket(places), deghost=str(number))
    wanted = [fuse(bracket([place] * 3)).picture.pixels for place in places]
    errors = [np.square(fused.picture.pixels - one).sum() for one in wanted]
    assert int(np.argmin(errors)) == number - 1
    assert {row["shown"] for row in fused.facts.found["moved"]} == {number}


def test_frames_without_the_person_outvote_the_one_with_her():
    fused = fuse(bracket([None, None, 110, None, None], stops=0.8), deghost="auto")
    assert all(row["shown"] != 3 for row in fused.facts.found["moved"])


def test_no_such_frame_and_other_scenes_are_refused():
    with pytest.raises(OptionError, match="only 3 frames"):
        fuse(bracket((20, 110, 200)), deghost="4")
    with pytest.raises(OptionError, match="is for exposures"):
        fuse(bracket((20, 110, 200)), deghost="auto", task="mff", prior="em_tv")
    for wrong in ("0", "some"):
        with pytest.raises(OptionError):
            Pipeline(deghost=wrong, device="cpu")


@pytest.mark.parametrize("frame", ["foo", "3foo", "xauto", "0", "2.5"])
def test_what_names_no_frame_is_refused(frame):
    with pytest.raises(OptionError, match=f"`deghost={frame}`: expected auto, none or whole number"):
        Pipeline(deghost=frame)


def test_batches_are_treated_image_by_image():
    import torch

    from fusionkit.images.convert import to_tensor

    moving, still = bracket((20, 110, 200)), bracket((110, 110, 110))
    both = [torch.cat([to_tensor(a.pixels), to_tensor(b.pixels)]) for a, b in zip(moving, still, strict=True)]
    choices = {"prior": "average", "backbone": "identity", "restore": "none", "align": "none", "device": "cpu"}
    alone = [Pipeline(**choices, deghost="auto").fuse_tensors([t[b : b + 1] for t in both]) for b in (0, 1)]
    fused = Pipeline(**choices, deghost="auto").fuse_tensors(both)
    assert torch.allclose(fused, torch.cat(alone), atol=1e-6)


def test_no_frame_is_said_to_lack_what_only_the_reference_lacks():
    frames = bracket([110] * 5)
    alpha = np.full(LIGHT.shape[:2], 255, np.uint8)
    alpha[:40] = 0
    frames[2] = as_picture(np.dstack([frames[2].values, alpha]), "frame 3")
    assert not [note for note in fuse(frames, deghost="auto").notes if "no data" in note]


def test_blotches_that_cleaning_left_do_not_move():
    images = [torch.from_numpy(one.pixels).permute(2, 0, 1)[None].contiguous() for one in bracket([110] * 3)]
    rows, columns = torch.meshgrid(torch.arange(240.0) - 200, torch.arange(320.0) - 60, indexing="ij")
    images[1] = (images[1] + 0.1 * torch.exp(-(rows.square() + columns.square()) / 98)).clamp(0, 1)
    for level, moves in ((0.0, True), (0.1, False)):
        had = tuple(torch.full((1, 1, 1, 1), level) for _ in images)
        sources = replace(Sources.of(images, reference=1), known_scenes=("exposure",), had=had)
        Deghost(DeghostOptions()).before(sources)
        assert ("moved" in sources.report.records) is moves
