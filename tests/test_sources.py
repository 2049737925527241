"""What every plug-in sees of the sources."""

import torch

from fusionkit.contracts import Report, Sources


def pair():
    return torch.rand(2, 3, 12, 16), torch.rand(2, 1, 12, 16)


def test_what_was_not_given_is_filled_in():
    sources = Sources.of(pair())
    assert sources.reference == 1
    assert sources.names == ("source 1", "source 2")
    assert [tuple(level.shape) for level in sources.noise] == [(2, 1, 1, 1)] * 2
    assert not sources.noisy
    assert torch.equal(sources.other_luma[0], sources.luma[0])


def test_a_single_source_is_its_own_other():
    alone = Sources.of(pair()[:1])
    assert alone.other_luma[0] is alone.reference_luma


def test_images_of_a_batch_and_strips_keep_their_noise_and_know_the_whole():
    sources = Sources.of(pair())
    noisy = Sources(sources.images, sources.luma, noise=(torch.tensor([0.1, 0.2]).view(2, 1, 1, 1),) * 2)
    assert float(noisy.select([1]).noise[0]) == torch.tensor(0.2).item()
    strip = noisy.rows(slice(2, 5))
    assert strip.luma[0].shape[-2] == 3
    assert strip.whole is noisy
    assert strip.scenes == noisy.scenes
    assert strip.report is noisy.report


def test_a_note_is_made_once_and_records_are_rows():
    report = Report()
    for _ in range(2):
        report.note("moved")
        report.record("aligned", source=1)
    assert report.notes == ["moved"]
    assert report.records == {"aligned": [{"source": 1}] * 2}
