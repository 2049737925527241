"""Every option of every plug-in and of the configuration changes a result, or is refused; a few change no pixel.

Values are made from an option's type and limits, and the other options that it is read with from its conditions, so
that a new option is covered without a line here. A plug-in that needs another scene or method has it in `METHODS`.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch

from fusionkit import scenes
from fusionkit.errors import InputError, OptionError, WeightsError
from fusionkit.extras import DISTRIBUTION
from fusionkit.method.config import SamplerOptions, configuration
from fusionkit.method.pipeline import Pipeline
from fusionkit.options import conditions, opens
from fusionkit.registry.kinds import KINDS, METHOD
from fusionkit.registry.loading import get_registry
from fusionkit.writing import write_image
from harness import mean_program, noisy_street

PLAIN = {"prior": "average", "backbone": "identity", "look": "faithful", "align": "none"}
FLOW = {"prior": "em_tv", "backbone": "identity", "look": "faithful", "align": "none"}
# the method, by kind or "kind name", in which a plug-in is looked at; the plug-in itself joins
METHODS: dict[str, dict[str, Any]] = {
    "prior": {"backbone": "identity", "look": "faithful", "align": "none"},
    **{
        f"prior {name}": FLOW | {"sampler": {"strength": 0.3, "steps": 2}} for name in ("ccf", "ddfm", "em_tv_paper")
    },  # fewer steps
    "backbone identity": FLOW | {"sampler": {"strength": 0.2}},
    "backbone rf": FLOW | {"restore": "none", "sampler": {"strength": 0.2}},
    "decoder identity": FLOW | {"sampler": {"strength": 0.2}},
    "decoder vq": FLOW | {"sampler": {"strength": 0.2}},
    "degradation": PLAIN | {"backbone": "rf"},
}
KERNEL = Path(tempfile.mkdtemp(prefix="fusionkit-tests-")) / "kernel.png"
PROGRAM = "a program of torch.export"  # stands for the path of one, which takes seconds to make
MATRIX = KERNEL.with_name("matrix.csv")  # where sources are said to lie
# values of text and tuples, which no type tells
VALUES: dict[str, list[Any]] = {
    "stage working_size.size": [(32, 40)],
    "configuration.working_size": [(32, 40)],
    "configuration.restore": ["none", "noise:level=12"],
    "sampler.guidance_range": [(0.5, 0.6)],
    "prior wavelet.wavelet": ["haar"],
    "stage palette.palette": ["iron:0.3,0.9"],
    "configuration.palette": ["iron:0.3,0.9"],
    "stage align.fov": [(0.97,)],
    "configuration.fov": [(0.97,)],
    "stage deghost.frame": ["1", "2"],
    "configuration.deghost": ["auto"],
    "prior network.file": [PROGRAM],
    "degradation noise.offset": [0.001],
    "degradation blur.file": [str(KERNEL)],
    "degradation jpeg.table": [(30,) * 64],
    "degradation jpeg.offset": [(2, 3)],
}
# options that stand beside one, where the conditions of their fields do not tell them
BESIDE: dict[str, dict[str, Any]] = {
    "stage align.rest": {"transform": str(MATRIX)},
    "prior network.file": {"trusted": True},
    "prior network.trusted": {"file": PROGRAM},
    "degradation noise.offset": {"slope": 0.01},
    "degradation noise.correlation": {"level": 12.0},
    **{f"degradation jpeg.{name}": {"quality": 20} for name in ("steps", "offset")},
    **{f"degradation stripes.{name}": {"direction": "columns"} for name in ("level", "drift", "steps", "scale")},
    "degradation blur.steps": {"sigma": 1.5},
    "degradation rain.steps": {"angle": 10.0},
    **{f"degradation low_resolution.{name}": {"factor": 2.0} for name in ("steps", "optics")},
}
# what else an option needs beside its conditions: a method in which it acts
NEEDS: dict[str, dict[str, Any]] = {
    "prior ccf.temperature": {"sampler": {"steps": 4}},
    "prior tv.eps": {"sampler": {"strength": 0.3, "inject": "both"}},
    "configuration.restore": {"backbone": "rf"},
    "sampler.precision": {"backbone": "rf"},
    "sampler.finish": {"decoder": "vq"},
    "sampler.detail": {"decoder": "vq"},
    "sampler.eta": {"backbone": "rf"},
    "sampler.guidance_scale": {"sampler": {"strength": 0.3}},
    "sampler.guidance_range": {"sampler": {"strength": 0.3}},
    "configuration.seed": {"sampler": {"strength": 0.2}, "backbone": "rf", "prior": "em_tv"},
    "configuration.reference": {"prior": "em_tv"},
    "configuration.rest": {"transform": str(MATRIX)},
    **{f"configuration.{name}": {"align": "affine"} for name in ("fov", "align_or_keep", "crop")},
}
# whose method is refused without a value
BARE = {
    "prior network.file",
    "prior network.trusted",
    "configuration.resize",
    "stage palette.palette",
    "degradation blur.file",
    "stage align.or_keep",
    "configuration.align_or_keep",
}
ALIGNING = {
    *(f"stage align.{name}" for name in ("model", "transform", "rest", "fov", "or_keep", "crop")),
    *(f"configuration.{name}" for name in ("align", "rest", "fov", "align_or_keep", "crop")),
}
MOVING = {"stage deghost.frame", "configuration.deghost"}
# for speed, or for pictures that are degraded
NO_PIXEL = {"configuration.tile", "degradation noise.correlation"}
# fields whose values are plug-ins, walked by themselves
CHOICES = {*METHOD, "stages", "sampler"}


@cache
def pairs(key: str) -> list[list[torch.Tensor]]:
    """Small pairs of every kind of scene: by day, noisy, two exposures, two focus settings; or those of an option."""
    if key in ALIGNING:
        shown = tensors(scenes.infrared_visible((160, 208), seed=0))[1]
        if key in BARE:  # nothing aligns noise
            return [[torch.rand(1, 1, 160, 208, generator=torch.Generator().manual_seed(0)), shown]]
        return [[shown.roll((3, 5), (-2, -1)), shown]]
    if key in MOVING:
        under, over = tensors(scenes.multi_exposure((96, 128), seed=0))
        over[..., 30:60, 40:80] = 1 - over[..., 30:60, 40:80]
        return [[under, over]]
    made = [
        tensors(scene((48, 64), seed=0))
        for scene in (scenes.infrared_visible, noisy_street, scenes.multi_exposure, scenes.multi_focus)
    ]
    if key.endswith(".palette"):  # which is for infrared
        return made[:2]
    return [[made[0][0][..., ::2, ::2], made[0][1]]] if key == "configuration.resize" else made


def tensors(images: Iterable[Any]) -> list[torch.Tensor]:
    return [torch.from_numpy(image.astype("float32")).movedim(2, 0)[None] for image in images]


Result = list[torch.Tensor] | str


def result(key: str, **choices: Any) -> Result:
    """The fused pairs, or that these choices are refused."""
    try:
        pipeline = Pipeline(**choices, device="cpu")
        fused = [pipeline.fuse_tensors(pair) for pair in pairs(key)]
    except (OptionError, InputError, WeightsError):
        return "refused"
    return [(255 * image).round() for image in fused] if key in NO_PIXEL else fused


def same(a: Result, b: Result) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a is b
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def values(annotation: Any, info: Any, key: str) -> Iterator[Any]:
    """Other values of a type, some of them perhaps beyond its limits."""
    if key in VALUES:
        yield from VALUES[key]
    elif get_origin(annotation) is Literal:
        yield from (value for value in get_args(annotation) if value != info.default)
    elif get_origin(annotation) in (Union, UnionType):
        yield from itertools.chain(*(values(a, info, key) for a in get_args(annotation) if a is not type(None)))
    elif annotation is bool:
        yield from (value for value in (True, False) if value is not info.default)
    elif annotation in (int, float):
        base = info.default or 0
        steps = (1, 2, 5) if annotation is int else (0.13, 0.5, 3.0)
        yield from (x for step in steps for x in (base + step, base - step))
        yield from (annotation(base * 8), annotation(base / 8))
    elif annotation is str:
        assert opens(info), f"{key}: text of a meaning that no type tells; give it values in VALUES"
        yield "no-such-file"


def needed(model: Any, name: str) -> dict[str, Any]:
    """Values of other fields with which a field is read."""
    found: dict[str, Any] = {}
    for when in conditions(model.model_fields[name]):
        other = model.model_fields[when.field]
        if not when.holds(other.default):
            found[when.field] = when.values[0] if when.above is None else when.above + (1 if when.above else 0.3)
        found = {**needed(model, when.field), **found}
    return found


def options() -> Iterator[tuple[str, Any, str, Any]]:
    """Key, model, name and how a value of it, with others, becomes choices."""
    for plugin in get_registry().plugins:
        kind = KINDS[plugin.kind]
        if plugin.distribution != DISTRIBUTION or plugin.missing or not kind.key:
            continue
        label = f"{plugin.kind} {plugin.record.name}"
        method = METHODS.get(label) or METHODS.get(plugin.kind) or PLAIN
        model = get_registry().load(plugin.kind, f"{DISTRIBUTION}:{plugin.record.name}").Options

        def chosen(
            given: dict[str, Any], kind: Any = kind, name: str = plugin.record.name, method: Any = method
        ) -> Any:
            choice = {"name": name, "options": given}
            return {**method, kind.key: [choice] if kind.several else choice}

        for name in model.model_fields:
            yield f"{label}.{name}", model, name, chosen

    def sampler(given: dict[str, Any]) -> Any:
        return {**FLOW, "sampler": given}

    for name in SamplerOptions.model_fields:
        yield f"sampler.{name}", SamplerOptions, name, sampler
    for name in configuration().model_fields:
        if name not in CHOICES:
            yield f"configuration.{name}", configuration(), name, lambda given: {**PLAIN, **given}


ALL = list(options())


@pytest.mark.parametrize(("key", "model", "name", "chosen"), ALL, ids=[key for key, *_ in ALL])
def test_an_option_changes_the_result_or_is_refused(key, model, name, chosen):
    info, others = model.model_fields[name], {**needed(model, name), **BESIDE.get(key, {})}

    def fused(**given: Any) -> Result:
        wanted = {k: mean_program() if v == PROGRAM else v for k, v in {**others, **given}.items()}
        choices, more = chosen(wanted), NEEDS.get(key, {})
        sampler = {**choices.get("sampler", {}), **more.get("sampler", {})}
        return result(key, **{**choices, **more, "sampler": sampler})

    if key == "degradation blur.file":
        write_image(KERNEL, np.ones((3, 5, 1), np.float32), "8")
    if key in ("stage align.rest", "configuration.rest"):
        MATRIX.write_text("1,0,0\n0,1,0\n")
    base = fused()
    assert base != "refused" or key in BARE, f"{key}: its method is refused; mend METHODS or NEEDS"
    results = [base]
    for value in values(info.annotation, info, key):
        results.append(fused(**{name: value}))
        if get_origin(info.annotation) is not Literal and not same(base, results[-1]) and results[-1] != "refused":
            break
    assert len(results) > 1, f"{key}: no other value is known"
    if key in NO_PIXEL:
        assert all(same(base, other) for other in results if other != "refused")
        return
    accepted = [other for other in results if other != "refused"]
    if opens(info) and len(accepted) == 1:
        return  # names a file, and the one that does not exist was looked for
    if base == "refused" and accepted:
        return
    if get_origin(info.annotation) is Literal or bool in (info.annotation, *get_args(info.annotation)):
        alone = [one for one in accepted if all(same(one, other) for other in accepted)]
        assert len(accepted) == 1 or not alone, f"{key}: accepted, and changes nothing"
    else:
        assert not all(same(base, other) for other in accepted), f"{key}: accepted, and changes nothing"


@pytest.mark.parametrize(
    ("prior", "sampler"),
    [
        ({"name": "em_tv_paper", "lam": 2.0}, {}),
        ({"name": "em_tv_paper", "carry": False}, {}),
        ({"name": "em_tv_paper", "carry": False, "lam": 2.0}, {"strength": 0.3, "steps": 2}),
        ({"name": "tv", "eps": 0.1}, {}),
        ({"name": "ccf", "temperature": 0.5}, {"steps": 2}),
        ({"name": "laplacian", "base": 2.0}, {"inject": "none"}),
        ({"name": "em_tv", "lit": 0.3}, {"strength": 0.3, "inject": "velocity"}),
    ],
)
def test_an_option_of_a_prior_that_the_sampling_leaves_unread_is_refused(prior, sampler):
    with pytest.raises(OptionError, match="is read only with"):
        Pipeline(prior=prior, backbone="identity", sampler=sampler, device="cpu")
