"""Faults of third parties' plug-ins: each is a line that names its package, and none takes down what others offer."""

import json

import pytest
import torch

from fusionkit.comparison import compare
from fusionkit.contracts import Sources
from fusionkit.errors import BrokenPlugin, FusionkitError, OptionError, PluginError
from fusionkit.images.accept import as_picture
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.words import key_values
from fusionkit.registry.loading import get_registry, load_registry
from fusionkit.scoring.detection import consistency_metrics
from fusionkit.scoring.evaluation import score_images
from fusionkit.scoring.maps import overlay
from fusionkit.scoring.metrics import load_metrics
from fusionkit.storage.outcome import attempt
from harness import run_cli

HEAD = """
import torch
import fusionkit
from fusionkit.contracts import *

class Good(Prior):
    reads_x0 = False
    def correct(self, x0, sources, state, sigma):
        return sources.luma[0], None

class Flow(Backbone):
    domain, channels, restores = "any", None, 0.5
    def velocity(self, x_t, t):
        return 0 * x_t

class Same(Decoder):
    lossless = True
    def encode(self, image):
        return image
    def decode(self, z, size):
        return z

class Grey(ColorSpace):
    def split(self, image):
        return image.mean(1, keepdim=True), None
    def merge(self, luma, chromas, sources):
        return luma

class Undone(Degradation):
    asks_flow = False
    @classmethod
    def estimate(cls, y, told):
        return {}
    def forward(self, x, generator=None):
        return x
    def undo(self, y, noise):
        return y
        yield

class Mean(Metric):
    definition = "the mean of the fused image"
    def __call__(self, fused, sources):
        return fused.flatten(1).mean(1)

class Nothing(Detector):
    definition = "finds nothing"
    def __call__(self, image):
        return []

class Bad(%s):
%s

@fusionkit.hookimpl
def fusionkit_%ss():
    yield fusionkit.%sRecord(name="bad", summary="a faulty one", target="fk_bad:Bad"%s)
"""
BASES = {
    "prior": "Good",
    "backbone": "Flow",
    "decoder": "Same",
    "color_space": "Grey",
    "stage": "Stage",
    "degradation": "Undone",
    "metric": "Mean",
    "detector": "Nothing",
}
PLAIN = {"prior": "average", "backbone": "identity", "restore": "none"}
SAMPLED = {"prior": "em_tv", "backbone": "identity", "restore": "none", "sampler": {"strength": 0.2}}
METHODS = {
    "prior": {**PLAIN, "prior": "bad"},
    "backbone": {**SAMPLED, "backbone": "bad"},
    "decoder": {**SAMPLED, "decoder": "bad"},
    "color_space": {**PLAIN, "prior": "laplacian", "color": "bad"},
    "stage": {**PLAIN, "stages": ["bad"]},
    "degradation": {**PLAIN, "backbone": "rf", "restore": "bad"},
}


def code(kind, body):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    record = kind.title().replace("_", "")
    return HEAD % (BASES[kind], lines, kind, record, ", place=15" if kind == "degradation" else "")


@pytest.fixture
def add(site, monkeypatch):
    """A function: add(kind, body) installs a package with the plug-in `bad` of this kind, whose class has this body."""

    def install(kind, body):
        site.add("fk-bad", code(kind, body))
        monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,fk-bad")
        monkeypatch.setenv("PYTHONPATH", str(site.site))
        get_registry.cache_clear()

    yield install
    monkeypatch.undo()
    get_registry.cache_clear()


def told(error):
    """The line of an error, which names the package or a module of it."""
    line = str(error)
    assert "fk-bad" in line or "fk_bad" in line
    assert "\n" not in line
    return line


ANSWERS = [
    ("prior", "def correct(self, x0, sources, state, sigma): return None", "correct returned NoneType"),
    (
        "prior",
        "def correct(self, x0, sources, state, sigma): return (255 * x0).byte(), None",
        "a tensor of torch.uint8",
    ),
    (
        "prior",
        "def correct(self, x0, sources, state, sigma): return x0[..., 1:], None",
        r"returned shape \(1, 1, 96, 127",
    ),
    ("prior", "def correct(self, x0, sources, state, sigma): return x0 / 0, None", "NaN or infinite"),
    ("prior", "def __init__(self): pass", "cannot be made: TypeError"),
    ("prior", "max_sources = '2'", "max_sources=2: expected a whole number"),
    ("prior", "max_sources = 1", "max_sources=1: expected a whole number >= 2"),
    ("prior", "look = 'pretty'", "look=pretty: expected faithful or vivid"),
    ("prior", "sampling = {'stepz': 2}", "sampling: no option 'stepz'; did you mean 'steps'"),
    ("prior", "sampling = {'strength': 'lots'}", "sampling: strength=lots: expected a number"),
    ("prior", "def unread(self, **_): return {'speed': 'luck'}", "unread returned 'speed'"),
    ("backbone", "def velocity(self, x_t, t): return None", "velocity returned NoneType"),
    ("backbone", "multiple = 0", "multiple=0: expected a whole number >= 1"),
    ("backbone", "restores = 7", "restores=7: expected a number >= 0 and < 1"),
    ("backbone", "channels = 'three'", "channels=three"),
    ("backbone", "decoder = 'lost'", "no decoder 'lost'"),
    ("decoder", "def encode(self, image): return None", "encode returned NoneType"),
    ("decoder", "def encode(self, image): return image[..., 1:]", "encode returned shape"),
    ("decoder", "channels = 7", r"encode returned shape \(1, 3, 96, 128\), expected \(1, 7, 96, 128\)"),
    ("decoder", "def decode(self, z, size): return z[..., 1:]", "decode returned shape"),
    ("color_space", "def split(self, image): return image", "split returned Tensor, expected luma and chroma"),
    ("color_space", "def split(self, image): return image, None", "split returned shape"),
    ("color_space", "def split(self, image): return 255 * image[:, :1], None", "split returned a luma up to 127.5"),
    ("color_space", "def merge(self, luma, chromas, sources): return luma[..., 1:]", "merge returned shape"),
    ("color_space", "def merge(self, luma, chromas, sources): return None", "merge returned NoneType"),
    (
        "stage",
        "def before(self, sources): return Sources.of(sources.images[:1])",
        "before returned 1 sources, expected 2",
    ),
    (
        "stage",
        "def before(self, sources): return sources.with_images([x / 0 for x in sources.images])",
        "before returned NaN",
    ),
    (
        "stage",
        "def after(self, image, sources): return image[0]",
        r"after returned shape \(3, 96, 128\), expected \(1, 1, 96, 128\)",
    ),
    ("stage", "def after(self, image, sources): return image.numpy()", "after returned ndarray"),
    ("stage", "def degradations(self, sources): return 5", "degradations returned 5"),
    ("degradation", "def undo(self, y, noise): return y", "undo returned no generator"),
    ("degradation", "def undo(self, y, noise): yield 5", "undo returned 5 by its yield"),
    ("degradation", "def undo(self, y, noise):\n    return None\n    yield", "undo returned NoneType"),
    ("degradation", "@classmethod\ndef estimate(cls, y, told): return [1]", "estimate returned list"),
    (
        "degradation",
        "@classmethod\ndef estimate(cls, y, told): return {'lost': 1}",
        "no option lost, which was estimated",
    ),
]


@pytest.mark.parametrize(("kind", "body", "reason"), ANSWERS, ids=[reason for *_, reason in ANSWERS])
def test_what_breaks_a_contract_is_a_line(add, scene, kind, body, reason):
    add(kind, body)
    with pytest.raises(FusionkitError, match=reason) as caught:
        Pipeline(**METHODS[kind], device="cpu").run(scene)
    told(caught.value)


def test_a_result_of_float64_is_taken(add, scene):
    add("prior", "def correct(self, x0, sources, state, sigma): return sources.luma[0].double(), None")
    fused = Pipeline(**METHODS["prior"], device="cpu").run(scene).image
    assert fused.dtype == torch.float32
    assert torch.equal(fused, Pipeline(**{**PLAIN, "prior": "source"}, prior_options={"number": 1}).run(scene).image)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def __call__(self, fused, sources): return 0.5", "__call__ returned float"),
        ("def __call__(self, fused, sources): return fused.mean((2, 3))", r"__call__ returned shape \(1, 1\)"),
        ("shows = 'lost'\ndef map(self, fused, sources): return fused[0]", r"map returned shape \(1, 96, 128\)"),
        ("range = 'wide'", "range=wide"),
        ("shows = 'all'", "shows=all"),
    ],
)
def test_what_a_metric_breaks_is_a_line(add, scene, body, reason):
    add("metric", body)
    sources = Sources.of([scene[1], scene[1]])

    def measured():
        metrics = load_metrics(["bad"], None)
        list(score_images({"mine": scene[1]}, sources, metrics, baselines=False))
        overlay(scene[1], sources, metrics)

    with pytest.raises(PluginError, match=reason) as caught:
        measured()
    told(caught.value)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("None", "returned None"),
        ("[(1, 2, 3, 4)]", r"returned \[\(1, 2, 3, 4\)\]"),
        ("[Detection((1.0, 2.0, 3.0), 1.0, 'x')]", "expected a box of four finite numbers"),
        ("[Detection((1.0, 2.0, 3.0, 4.0), float('nan'), 'x')]", "finite score"),
    ],
)
def test_what_a_detector_breaks_is_a_line(add, scene, found, reason):
    add("detector", f"def __call__(self, image): return {found}")
    metrics = consistency_metrics("bad", get_registry().create("detector", "bad"))
    with pytest.raises(PluginError, match=reason) as caught:
        list(score_images({"mine": scene[1]}, Sources.of([scene[1]]), metrics, baselines=False))
    told(caught.value)


RAISES = "def correct(self, *_): raise ValueError('no\\nlicence')"


def test_an_exception_is_told_with_its_package(add, pair_files, tmp_path):
    add("prior", RAISES)
    out = tmp_path / "out.png"
    done = run_cli("run", "--prior", "bad", "--backbone", "identity", *pair_files, "-o", out)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if "note" not in line]
    assert line.startswith("fusionkit: error: fk-bad 1.0: ValueError: no licence (fk_bad.py, line ")
    assert not out.exists()


def test_one_that_ends_the_program_is_told_too(add, pair_files, tmp_path):
    add("prior", "def correct(self, *_): raise SystemExit('bye')")
    done = run_cli("run", "--prior", "bad", "--backbone", "identity", *pair_files, "-o", tmp_path / "out.png")
    assert done.returncode == 2
    assert "fk-bad 1.0: SystemExit: bye (fk_bad.py" in done.stderr


def test_a_comparison_goes_on(add, scene):
    add("prior", RAISES)
    methods = {name: {"prior": name, **{k: v for k, v in PLAIN.items() if k != "prior"}} for name in ("bad", "average")}
    pictures = [as_picture(x[0].permute(1, 2, 0).numpy(), "x") for x in scene]
    entries = {entry.name: entry for entry in compare(pictures, methods, "heat", device="cpu")}
    assert told(entries["bad"].reason).startswith("fk-bad 1.0: ValueError")
    assert entries["average"].image is not None


def test_a_task_of_many_fails_alone(add):
    add("prior", RAISES)

    class Task:
        key = "a"

    prior = get_registry().create("prior", "bad")
    assert told(attempt(lambda task: prior.correct(), Task()).reason).startswith("fk-bad 1.0: ValueError: no licence")
    own = attempt(lambda task: [].pop(), Task()).reason
    assert own == "IndexError: pop from empty list"


@pytest.mark.parametrize(
    "body",
    [
        "@classmethod\ndef estimate(cls, y, told): raise ValueError('no licence')",
        "@classmethod\ndef estimate(cls, y, told): return {'lost': 1}",
        "def describe(self): raise KeyError('words')",
        "def __init__(self): pass",
    ],
)
def test_a_degradation_that_nobody_asked_for_ends_no_fusion(add, scene, body):
    plain = Pipeline(prior="average", device="cpu").run(scene)
    add("degradation", body)
    result = Pipeline(prior="average", device="cpu").run(scene)
    assert torch.equal(result.image, plain.image)
    (note,) = {note for note in result.notes if note.startswith("left out: ")}
    told(note)


STREAMS = """def passes(self, frames): return 1
def begin(self, *_): return {}
def accumulate(self, state, frame, turn): return state
def conclude(self, *_): return 0.5"""


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("prior", "def passes(self, frames): return -1", "passes returned -1"),
        ("prior", "def passes(self, frames): return '2'", "passes returned '2'"),
        ("prior", STREAMS, "conclude returned float"),
        ("stage", "by_frame = True\ndef of_series(self, *_): return []", "of_series returned 0 stages"),
    ],
)
def test_what_breaks_a_series_is_a_line(add, scene, kind, body, reason):
    add(kind, body)
    pictures = [as_picture(scene[1][0].permute(1, 2, 0).numpy(), str(i)) for i in range(6)]
    with pytest.raises(PluginError, match=reason) as caught:
        Pipeline(**METHODS[kind], device="cpu").fuse_pictures(pictures)
    told(caught.value)


P, S = ("prior", "PriorRecord"), ("stage", "StageRecord")
RECORDS = [
    (("degradation", "DegradationRecord"), "place='ten'", "DegradationRecord 'x': place='ten', expected int"),
    (P, "scenes='focus'", "scenes='focus', expected a tuple"),
    (P, "rank=True", "rank=True, expected int"),
    (P, "modules='scipy'", "modules='scipy', expected a tuple"),
    (P, "trainer=5", """trainer=5, expected "module:Class\""""),
    (P, "api=3", "unexpected keyword argument 'api'"),
    (("reader", "ReaderRecord"), "extensions='.foo'", "expected a tuple"),
    (("reader", "ReaderRecord"), "extensions=('FOO',)", 'expected extensions such as ".png"'),
    (("reader", "ReaderRecord"), "magic=(b'x',)", "expected a tuple"),
    (("reader", "ReaderRecord"), "magic=((0, 1, b'x'),)", "expected 2 values"),
    (("reader", "ReaderRecord"), "mark='x'", "mark='x', expected bytes"),
    (("writer", "WriterRecord"), "depths=('12',)", "expected '8' or '16' or 'float'"),
    (S, "place='first'", "place='first', expected int"),
    (S, "flags=('x',)", "flags=('x',), expected StageFlag"),
    (S, "flags=(fusionkit.StageFlag(name='My Flag', help='h', values={'a': None}),)", "expected lower-case letters"),
]


@pytest.mark.parametrize(("kind", "field", "reason"), RECORDS, ids=[field for _, field, _ in RECORDS])
def test_a_record_of_a_wrong_type_is_its_packages_fault(site, kind, field, reason):
    hook = f"@fusionkit.hookimpl\ndef fusionkit_{kind[0]}s():\n"
    site.add(
        "fk-bad", f"import fusionkit\n{hook}    yield fusionkit.{kind[1]}(name='x', summary='s', target='a:B', {field})"
    )
    registry = load_registry(restriction="imagefusionkit,fk-bad")
    (failure,) = registry.failures
    assert reason in told(failure)
    assert "em_tv" in registry.names("prior")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("name='has space'", "expected a name without spaces"),
        ("name='a:b'", "expected a name without spaces"),
        ("summary='two\\nlines'", "expected a line of text"),
        ("target='nowhere'", 'expected "module:Class"'),
    ],
)
def test_a_name_that_nobody_could_write_is_refused(site, given, reason):
    fields = {"name": "name='x'", "summary": "summary='s'", "target": "target='a:B'", given.split("=")[0]: given}
    hook = "@fusionkit.hookimpl\ndef fusionkit_priors():\n"
    site.add("fk-bad", f"import fusionkit\n{hook}    yield fusionkit.PriorRecord({', '.join(fields.values())})")
    assert reason in told(*load_registry(restriction="imagefusionkit,fk-bad").failures)


def test_hooks_with_arguments_are_told_in_one_line_and_prints_stay_out_of_the_output(site):
    hook = "print('hello')\n@fusionkit.hookimpl\ndef fusionkit_priors(registry):\n    yield 1\n"
    site.add("fk-bad", f"import fusionkit\n{hook}")
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,fk-bad"}
    listed = json.loads(run_cli("plugins", "list", "--json", env=env).stdout)
    assert "Argument(s) {'registry'}" in told(*listed["failures"])


def test_a_module_inside_a_package_that_is_not_there_is_missing(site):
    record = "name='x', summary='s', target='a:B', modules=('no_such_package.inner',)"
    site.add(
        "fk-bad",
        f"import fusionkit\n@fusionkit.hookimpl\ndef fusionkit_priors():\n    yield fusionkit.PriorRecord({record})",
    )
    assert load_registry(restriction="fk-bad").find("prior", "x").missing == ["no_such_package.inner"]


@pytest.mark.parametrize("name", ["jobs", "output", "model_dump"])
def test_a_flag_of_a_name_that_is_taken_leaves_the_command_as_it_is(site, pair_files, tmp_path, name):
    flag = f"fusionkit.StageFlag(name={name!r}, help='h', values={{'none': None, 'all': {{}}}})"
    body = f"    yield fusionkit.StageRecord(name='x', summary='s', target='fk_bad:X', flags=({flag},))"
    stage = "class X(Stage):\n    def after(self, image, sources):\n        return 1 - image\n"
    site.add(
        "fk-bad",
        f"import fusionkit\nfrom fusionkit import Stage\n{stage}@fusionkit.hookimpl\ndef fusionkit_stages():\n{body}",
    )
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,fk-bad"}
    out, plain = tmp_path / "out.png", ("--prior", "average", "--backbone", "identity", *pair_files)
    assert run_cli("run", *plain, "-o", out, env=env).returncode == 0
    set_so = run_cli("run", *plain, "--set", f"{name}=all", "-o", tmp_path / "set.png", env=env)
    checked = run_cli("plugins", "check", "fk-bad", env=env)
    if name == "model_dump":  # a method of every configuration
        assert set_so.returncode == checked.returncode == 2
        assert "is called 'model_dump' already" in checked.stderr
    else:
        assert set_so.returncode == checked.returncode == 0
        assert (tmp_path / "set.png").read_bytes() != out.read_bytes()


def test_all_that_bear_a_name_are_shown(site):
    body = "    yield fusionkit.PriorRecord(name='average', summary='theirs', target='fk_bad:Theirs')"
    prior = "class Theirs(Prior):\n    def correct(self, x0, sources, state, sigma):\n        return x0, None\n"
    site.add(
        "fk-bad",
        f"import fusionkit\nfrom fusionkit import Prior\n{prior}@fusionkit.hookimpl\ndef fusionkit_priors():\n{body}",
    )
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,fk-bad"}
    shown = run_cli("plugins", "show", "average", env=env)
    assert shown.returncode == 0
    assert "average (prior, fk-bad 1.0)" in shown.stdout
    assert "average (prior, imagefusionkit" in shown.stdout


@pytest.mark.parametrize("options", ["pydantic.BaseModel", "Loose"])
def test_options_that_would_take_any_name_are_refused(add, options):
    loose = "import pydantic\nclass Loose(Options):\n    model_config = {'extra': 'ignore'}\n"
    add("prior", f"{loose}Options = {options}")
    with pytest.raises(BrokenPlugin, match="which forbids unknown options") as caught:
        get_registry().create("prior", "bad", {"misspelt": 1})
    told(caught.value)


OPTIONS = """from pydantic import Field
class Its(Options):
    model_config = {"title": "its"}
    number: float = 1.0
    count: int | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    words: list[str] = []
Options = Its"""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"pair": "0.2,0.5"}, {"pair": (0.2, 0.5)}),
        ({"many": "1,2"}, {"many": (1, 2)}),
        ({"many": "7"}, {"many": (7,)}),
        ({"words": "a,b"}, {"words": ["a", "b"]}),
        ({"number": "3", "count": "4"}, {"number": 3.0, "count": 4}),
    ],
)
def test_options_are_taken_in_words(add, given, taken):
    add("prior", OPTIONS)
    assert {name: getattr(get_registry().create("prior", "bad", given).options, name) for name in taken} == taken


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"pair": "0.2"}, "pair=0.2: expected number,number"),
        ({"pair": "0.2,nan"}, "pair=nan: input should be a finite number"),
        ({"many": ""}, "many=: expected list of whole number"),
        ({"number": True}, "`number=true`: expected a number"),
        ({"count": False}, "`count=false`: expected a whole number"),
        ({"number": "5mm"}, "number=5mm: expected a number"),
    ],
)
def test_wrong_values_are_refused(add, given, reason):
    add("prior", OPTIONS)
    with pytest.raises(OptionError, match=f"^prior bad: {reason}"):
        get_registry().create("prior", "bad", given)


def test_an_option_given_twice_is_refused():
    with pytest.raises(OptionError, match="--prior-opt lit: given twice"):
        key_values(["lit=0.3", "lit=0.5"], "--prior-opt")
