"""Python speaks: what may have spoiled a result is a warning, once a cause, at the caller's line; notes keep it."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from skimage import data

import fusionkit
from fusionkit import FusionWarning
from fusionkit.errors import Caution
from harness import noisy_street, run_cli

PLAIN = {"prior": "average", "backbone": "identity", "device": "cpu", "restore": "none"}
CAMERA = data.camera()


class Still(fusionkit.Backbone):
    """A flow that stands still, and restores nothing."""

    domain, channels = "pixel", 1

    def velocity(self, x_t, t):
        return torch.zeros_like(x_t)


def shifted():
    return CAMERA[20:276, 40:360], CAMERA[11:267, 28:348]


def clean():
    return CAMERA[20:276, 40:360] // 8 * 8, 255 - CAMERA[20:276, 40:360] // 8 * 8


def warned(*images, **choices):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fused = fusionkit.fuse(*images, **choices)
    assert {w.category for w in caught} <= {FusionWarning}
    assert {w.filename for w in caught} <= {__file__}  # the caller's line, not one of this package
    return fused, [str(w.message) for w in caught]


class TestWhatIsSaid:
    @pytest.mark.parametrize("kind", [np.asarray, lambda a: torch.from_numpy(a.copy())])
    def test_sources_that_lie_elsewhere(self, kind):
        fused, said = warned(*map(kind, shifted()), **PLAIN)
        assert len(said) == 1
        assert said[0].startswith("source 1 looks 15 px off source 2")
        assert said[0] in fused.notes

    def test_a_range_that_was_guessed_and_of_which_source(self):
        counts = (7000 + 2 * CAMERA.astype(np.uint16)).clip(0, 7500)
        fused, said = warned(counts[:96, :128], CAMERA[:96, :128], **PLAIN)
        [text] = [note for note in said if "black is" in note]
        assert text.startswith("source 1: black is 7")
        assert text in fused.notes

    def test_noise_that_was_left(self):
        choices = {**PLAIN, "restore": "auto"}
        fused, said = warned(*noisy_street((128, 160)), **{**choices, "backbone": Still()})
        assert any("noise" in text and "left as it is" in text for text in said)
        fused, said = warned(*noisy_street((128, 160)), **choices)
        assert any("noise" in text and "left as it is" in text for text in fused.notes)
        assert not any("noise" in text for text in said)  # who chooses identity wants no flow

    def test_a_pair_without_faults_has_notes_and_no_warning(self, pair_files):
        fused, said = warned(*pair_files, prior="em_tv", device="cpu")
        assert said == []
        assert any(note.startswith("treated as") for note in fused.notes)

    def test_a_result_that_is_fused_again_does_not_say_it_again(self):
        fused, said = warned(*shifted(), **PLAIN)
        assert said
        assert warned(fused, np.asarray(fused), **PLAIN)[1] == []

    def test_the_pipeline_warns_at_the_same_place(self):
        pipeline = fusionkit.Pipeline(**PLAIN)
        with pytest.warns(FusionWarning, match="px off") as caught:
            pipeline.fuse(*shifted())
        assert [w.filename for w in caught] == [__file__]

    def test_a_caution_survives_a_process(self):
        assert isinstance(pickle.loads(pickle.dumps(Caution("x"))), Caution)


class TestABackboneThatIsNotAsked:
    def test_one_that_could_have_been_is_a_note(self):
        fused, said = warned(*clean(), prior="average", backbone="rf", device="cpu")
        assert "backbone rf was not asked: the sources are clean, and `strength` is 0" in fused.notes
        assert said == []

    def test_one_that_cannot_be_is_a_warning(self, pair_files):
        choices = {"backbone": Still(), "device": "cpu", "restore": "none"}
        _, said = warned(*pair_files, prior="average", **choices)
        assert [text.partition(":")[0] for text in said] == [
            "backbone Still was not asked, so the result is that of any other"
        ]
        asked, said = warned(*pair_files, prior="em_tv", sampler={"strength": 0.2}, **choices)
        assert (said, asked.evaluations) == ([], 1)

    @pytest.mark.parametrize("choices", [{}, {"backbone": "identity"}])
    def test_nobody_who_chose_none_is_told(self, pair_files, choices):
        fused, _ = warned(*pair_files, prior="average", device="cpu", **choices)
        assert not any("was not asked" in note for note in fused.notes)


def test_sources_of_one_name_are_told_apart(tmp_path):
    for folder, values in zip(("ir", "vis"), shifted(), strict=True):
        (tmp_path / folder).mkdir()
        fusionkit.write_image(tmp_path / folder / "x.png", values)
    done = run_cli("run", "ir/x.png", "vis/x.png", "-o", "f.png", "--backbone", "identity", cwd=tmp_path)
    assert "note: ir/x.png looks 15 px off vis/x.png (" in done.stderr


def test_the_command_prints_a_caution_once_and_as_a_note(pair_files, tmp_path):
    arguments = ("run", "--prior", "average", "--backbone", "rf", "--restore", "none", *pair_files)
    done = run_cli(*arguments, "-o", tmp_path / "fused.png")
    assert done.returncode == 0
    assert done.stderr.count("was not asked") == 1
    assert "--strength 0.2 samples it" in done.stderr
    assert "Warning" not in done.stderr
