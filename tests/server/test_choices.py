"""What a visitor may choose: judged by the types of the options, without building anything."""

import re
import shutil

import pytest

from fusionkit.errors import BrokenPlugin, FusionkitError, OptionError
from fusionkit.method.pipeline import Pipeline
from fusionkit.registry.loading import get_registry
from fusionkit.server.catalog import catalog
from fusionkit.server.choices import checked, weights_names
from fusionkit.weights.store import get_weights, user_folder

PLUGIN = """
from pathlib import Path
from pydantic import BaseModel, ConfigDict, Field, FilePath as Existing
import fusionkit
from fusionkit.contracts import ColorSpace, Degradation, Options, Prior
from fusionkit.options import FilePath, WeightsName

class Inner(Options):
    weights: WeightsName = Field("", description="of a network")
    note: str = Field("", description="anything")

class Deep(Options):
    mask: FilePath = Field("", description="a file")

class Mine(Options):
    one: WeightsName = Field("", description="d")
    maybe: WeightsName | None = Field(None, description="d")
    several: list[WeightsName] = Field([], description="d")
    table: Inner = Field(Inner(), description="d")
    tables: dict[str, Inner] = Field({}, description="d")
    path: Path | None = Field(None, description="d")
    existing: Existing | None = Field(None, description="d")
    marked: FilePath = Field("", description="d")
    deep: list[Deep] = Field([], description="d")
    renamed: FilePath = Field("", description="d", alias="other")
    note: str = Field("", description="d")

class Reads(Prior):
    Options = Mine
    def __init__(self, options):
        raise AssertionError("built")
    def correct(self, x0, sources, state, sigma):
        return x0, None

class Loose(Reads):
    class Options(BaseModel):
        model_config = ConfigDict(extra="allow")

class Worn(Degradation):
    Options = Mine
    def __init__(self, options):
        raise AssertionError("built")
    def forward(self, x, generator=None):
        return x
    def undo(self, y, noise):
        yield

class Tinted(ColorSpace):
    class Options(Options):
        table: Path | None = Field(None, description="d")
    def split(self, image):
        return image, None
    def merge(self, luma, chromas, sources):
        return luma

@fusionkit.hookimpl
def fusionkit_priors():
    yield fusionkit.PriorRecord(name="reads", summary="s", target=f"{__name__}:Reads")
    yield fusionkit.PriorRecord(name="loose", summary="s", target=f"{__name__}:Loose")
    yield fusionkit.PriorRecord(name="quits", summary="s", target="mine_that_quits:Quits")

@fusionkit.hookimpl
def fusionkit_degradations():
    yield fusionkit.DegradationRecord(name="worn", summary="s", target=f"{__name__}:Worn", place=1)

@fusionkit.hookimpl
def fusionkit_color_spaces():
    yield fusionkit.ColorSpaceRecord(name="tinted", summary="s", target=f"{__name__}:Tinted")
"""


@pytest.fixture
def installed(site, monkeypatch):
    """Another package's priors, whose options name files and weights."""
    site.add("mine", PLUGIN)
    (site.site / "mine_that_quits.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,mine")
    get_registry.cache_clear()
    yield site
    monkeypatch.undo()
    get_registry.cache_clear()


@pytest.fixture
def weights_file(tmp_path):
    """Weights of a prior that lie anywhere on the disk, whole and readable."""
    stored = get_weights("learned-rendered").file.path
    for suffix in (".safetensors", ".json"):
        shutil.copy(stored.with_suffix(suffix), tmp_path / f"there{suffix}")
    return tmp_path / "there.safetensors"


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/etc/passwd"},
        {"existing": "/etc/passwd"},
        {"existing": "/no/such/file"},
        {"marked": "/etc/passwd"},
        {"deep": [{"mask": "/etc/passwd"}]},
        {"other": "/etc/passwd"},
    ],
)
def test_an_option_that_can_name_a_file_is_refused_by_its_type(installed, options):
    for choices in (
        {"prior": "reads", "prior_options": options},
        {"prior": {"name": "mine:reads", **options}},
        {"prior": {"name": "reads", "options": options}},
    ):
        with pytest.raises(OptionError) as error:
            checked(choices)
        assert str(error.value) == f"cannot be chosen here: {next(iter(options))}"
    for one in ({"name": "worn", **options}, {"name": "mine:worn", "source": 2, "options": options}):
        for restore in (one, ["noise", one]):
            with pytest.raises(OptionError) as error:
                checked({"restore": restore})
            assert str(error.value) == f"cannot be chosen here: {next(iter(options))}"
    with pytest.raises(OptionError, match="cannot be chosen here: path"):
        checked({"restore": "1=worn:path=/etc/passwd"})
    with pytest.raises(OptionError, match="cannot be chosen here: table"):
        checked({"prior": "reads", "color": {"name": "tinted", "table": "/etc/passwd"}})


def test_what_no_type_describes_is_refused(installed):
    with pytest.raises(BrokenPlugin, match="which forbids unknown options"):
        checked({"prior": "loose", "prior_options": {"weights": "/etc/passwd"}})


@pytest.mark.parametrize(
    ("prior", "shape"),
    [
        ("learned", lambda name: {"weights": name}),
        ("em_tv", lambda name: {"focus_weights": name}),
        ("em_tv", lambda name: {"exposure_weights": name}),
        ("reads", lambda name: {"one": name}),
        ("reads", lambda name: {"maybe": name}),
        ("reads", lambda name: {"several": ["learned-rendered", name]}),
        ("reads", lambda name: {"table": {"weights": name}}),
        ("reads", lambda name: {"tables": {"a": {"note": "/a note", "weights": name}}}),
    ],
)
def test_weights_are_chosen_by_listed_names_only_and_nothing_is_told_of_others(installed, weights_file, prior, shape):
    said = set()
    elsewhere = weights_file.with_name("missing.safetensors")
    for name in (str(weights_file), str(elsewhere), "there", "../there", "rf-small", "C:\\there.safetensors", "/"):
        for choices in (
            {"prior": prior, "prior_options": shape(name)},
            {"prior": {"name": prior, **shape(name)}},
        ):
            with pytest.raises(OptionError) as error:
                checked(choices)
            said.add(str(error.value))
    assert len(said) == 1
    assert "\n" not in (line := said.pop())
    assert line.endswith("give a name of listed weights, as `fusionkit weights list` has them")
    for name in ("learned-rendered", "focus-rendered"):
        checked({"prior": prior, "prior_options": shape(name)})


def test_imported_weights_can_be_chosen_by_their_name(weights_file):
    assert "there" not in weights_names("prior")
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    moved = [shutil.copy(weights_file.with_suffix(s), folder / f"there{s}") for s in (".safetensors", ".json")]
    try:
        assert "there" in weights_names("prior")
        assert "there" not in weights_names("backbone")
        checked({"prior": "learned", "prior_options": {"weights": "there"}})
    finally:
        for path in moved:
            path.unlink()


def test_the_catalog_offers_what_can_be_chosen(installed):
    rows = {row["name"]: row for row in catalog()["priors"]}
    offered = {field["name"] for field in rows["mine:reads"]["options"]}
    assert offered == {"one", "maybe", "several", "table", "tables", "note"}
    assert "SystemExit" in rows["mine:quits"]["broken"]


def test_the_catalog_speaks_in_the_pages_labels():
    rows = {row["name"]: row["description"] for row in catalog()["fields"]}
    assert "cannot align as it lies" in rows["align_or_keep"]
    assert not [text for text in rows.values() if "`" in text]


def test_the_catalog_offers_nothing_that_needs_a_file_of_the_server():
    names = {row["name"] for row in catalog()["fields"]}
    assert "align_or_keep" in names
    assert names.isdisjoint({"transform", "rest"})  # rest is read beside transform alone
    with pytest.raises(OptionError, match="cannot be chosen here: rest"):
        checked({"rest": True})


def test_the_catalog_offers_degradations_in_words():
    (field,) = (field for field in catalog()["asked"] if field["name"] == "restore")
    assert field["schema"] == {"type": "array", "default": "auto"}
    assert field["type"] == "list of [NUMBER=]NAME[:KEY=VALUE,...], default auto"
    for value in ("auto", "none", "noise:level=12", ["1=noise:level=8", "2=noise"]):
        checked({"restore": value})


def test_the_catalog_lists_priors_by_rank_and_names_the_defaults(installed):
    rows = catalog()
    ranks = [plugin.record.rank for plugin in get_registry().of_kind("prior")]
    ranked = [get_registry().find("prior", row["name"]).record.rank for row in rows["priors"]]
    assert ranked == sorted(filter(None, ranks)) + [0] * ranks.count(0)
    assert rows["defaults"] == {"prior": "em_tv", "backbone": "rf", "decoder": None, "color": "ycbcr"}
    offered = {row["name"] for row in rows["priors"] if row.get("offered")}
    assert {"em_tv", "average"} <= offered
    assert not {"none", "source"} & offered


def test_an_object_is_no_choice_of_a_page(installed):
    with pytest.raises(OptionError, match="prior: expected the name of a plug-in"):
        checked({"prior": ["reads"]})
    with pytest.raises(OptionError, match="restore: expected the name of a plug-in"):
        checked({"restore": 3})


def test_nothing_is_built_to_validate(installed, monkeypatch):
    built = []
    monkeypatch.setattr(Pipeline, "__init__", lambda self, *a, **k: built.append(a))
    checked({})
    checked({"task": "mef", "look": "vivid", "restore": "none"})
    checked({"prior": "reads", "prior_options": {"note": "/as text"}})
    assert not built


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"prior": "laplacien"}, "no prior 'laplacien'; did you mean 'laplacian'"),
        ({"prior_options": {"lit": 7}}, "prior em_tv: lit=7: expected a number >= 0 and <= 1"),
        ({"prior": "laplacian", "prior_options": {"bas": 1}}, "no option 'bas'; did you mean 'base'"),
        ({"restore": "nois"}, "no degradation 'nois'; did you mean 'noise'"),
        ({"restore": ["1=noise:level=300"]}, "degradation noise: level=300: expected a number >= 0 and <= 255"),
        ({"restore": "worn:one=there"}, "one: give a name of listed weights"),
        ({"color": "rgbb"}, "no color-space 'rgbb'"),
        ({"task": "../ivif"}, "no task '../ivif'; tasks: "),
        ({"sampler": {"steps": 0}}, "`sampler.steps=0`: expected a whole number >= 1"),
        ({"sampler": {"solver": "heun"}}, "cannot be chosen here: solver"),
        ({"transform": "/etc/passwd"}, "cannot be chosen here: transform"),
        ({"backbone": "rf"}, "cannot be chosen here: backbone"),
        ({"prior_options": "lit=1"}, "prior_options: expected a table"),
    ],
)
def test_what_is_wrong_is_said_as_a_pipeline_says_it(installed, choices, words):
    with pytest.raises(FusionkitError, match=re.escape(words)) as error:
        checked(choices)
    assert "\n" not in str(error.value)
