"""Tiles: exact where the function is local, without a seam where it is not."""

import resource
from inspect import get_annotations

import pytest
import torch

from fusionkit.contracts import Backbone, Decoder
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.tiling import blend_tiles, tile_starts, tiled
from fusionkit.scenes import infrared_visible
from fusionkit_backbones.identity import Identity
from fusionkit_plugins.identity import IdentityDecoder


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(100, 32, 8), (33, 32, 16), (32, 32, 8), (10, 32, 8), (257, 64, 24)]
)
def test_tiles_cover_everything(size, tile, overlap):
    starts = tile_starts(size, tile, overlap)
    covered = set()
    for a, b in zip(starts, starts[1:], strict=False):
        assert a + tile - b >= overlap
    for s in starts:
        covered |= set(range(s, min(s + tile, size)))
    assert covered == set(range(size))


@pytest.mark.parametrize("scale", [1, 4, 0.25])
def test_a_pointwise_function_is_unchanged(scale, generator):
    def function(x):
        if scale == 4:
            return x.repeat_interleave(4, -1).repeat_interleave(4, -2) * 2
        return (x if scale == 1 else x[..., ::4, ::4]) * 2

    x = torch.rand(2, 3, 100, 148, generator=generator)
    torch.testing.assert_close(blend_tiles(x, function, 48, 16, scale), function(x))


def test_a_constant_offset_between_tiles_becomes_a_ramp():
    """The worst case: each tile returns its own constant. No step between neighbours may exceed twice offset / overlap."""
    calls = iter(range(1000))
    result = blend_tiles(torch.zeros(1, 1, 32, 96), lambda x: torch.full_like(x, float(next(calls))), 32, 16)
    assert float(result.diff(dim=-1).abs().max()) <= 2 / 16 + 1e-5


@pytest.mark.parametrize("multiple", [1, 4, 64])
@pytest.mark.parametrize("tile", [256, 512])
def test_tiles_overlap_whatever_the_networks_divide_by(multiple, tile, generator):
    """A published NCSN++ divides latents by 64, that is 256 pixels; the autoencoder's tiles are no larger for that."""
    pipeline = Pipeline(prior="none", backbone="identity", decoder="vq", device="cpu")
    pipeline.backbone.multiple = multiple
    backbone, decoder = tiled(pipeline.backbone, pipeline.decoder, tile)
    for part in (backbone, decoder):
        assert part.tile_overlap >= 16
        assert part.tile >= 2 * part.tile_overlap
    assert backbone.tile % multiple == backbone.tile_overlap % multiple == 0
    assert decoder.tile == tile // 4


@pytest.mark.parametrize(("kind", "contract"), [("backbone", Backbone), ("decoder", Decoder)])
def test_what_a_contract_states_is_not_lost_on_tiles(kind, contract):
    parts = {"backbone": Identity(Identity.Options()), "decoder": IdentityDecoder(IdentityDecoder.Options())}
    stated = [*get_annotations(contract), "provenance", "options"]
    inner = parts[kind]
    for number, name in enumerate(stated, 1):
        setattr(inner, name, number)
    outer = dict(zip(parts, tiled(parts["backbone"], parts["decoder"], 256), strict=True))[kind]
    assert {name: getattr(outer, name) for name in stated} == {name: getattr(inner, name) for name in stated}


@pytest.fixture(scope="module")
def large():
    ir, vis = infrared_visible((448, 640), seed=1)
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (ir, vis)]


def test_tiled_and_whole_results_agree_and_no_tile_edge_shows(large):
    def fuse(tile):
        return Pipeline(
            make_config({"prior": "em_tv", "tile": tile, "restore": "noise:level=20"}), device="cpu"
        ).fuse_tensors(large)

    whole, in_tiles = fuse(4096), fuse(256)
    difference = (in_tiles - whole).abs().mean(dim=(0, 1))
    # em_tv chooses edges by their energy, which a share of a level can tip over
    assert float(difference.max()) < 3 / 255, "levels, where the noise had twenty"
    assert float(difference.mean()) < 0.15 / 255  # bfloat16 alone makes a twentieth of a level


def test_the_prior_is_never_tiled(large):
    """A closed form of the sources must not change at all."""

    def fuse(tile):
        config = make_config({"prior": "laplacian", "tile": tile, "restore": "none"})
        return Pipeline(config, device="cpu").fuse_tensors(large)

    assert torch.equal(fuse(0), fuse(256))


def test_memory_of_tiles_does_not_grow_with_the_image(large):
    """Four times the tile's area may not need more than the images themselves beyond what one tile needs."""
    pipeline = Pipeline(make_config({"tile": 256, "restore": "noise:level=20"}), device="cpu")
    pipeline.fuse_tensors([x[..., :256, :256] for x in large])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipeline.fuse_tensors(large)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 60 * 4 * 448 * 640 + 50e6
