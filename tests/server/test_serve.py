"""The live page's server: sessions, jobs, limits, and what is refused."""

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the page needs the extra serve")
pytest.importorskip("httpx2", reason="these tests need httpx2")
from fastapi.testclient import TestClient

from fusionkit.cli.serve import serve
from fusionkit.errors import OptionError
from fusionkit.images.picture import from_unit
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import choose
from fusionkit.reading import read_image
from fusionkit.registry.loading import get_registry
from fusionkit.scenes import infrared_visible
from fusionkit.server.app import make_app
from fusionkit.server.recipes import as_command, as_python, as_toml
from fusionkit.server.sessions import Limits
from harness import run_cli

TOKEN = "a-token-of-the-tests"
# of httpx in starlette's client
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def png(image, depth=8):
    stream = io.BytesIO()
    values = from_unit(image, "16" if depth == 16 else "8", (0.0, 65535.0 if depth == 16 else 255.0))
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(stream, "PNG")
    return stream.getvalue()


def pair(seed=0, size=(60, 80)):
    return [png(image) for image in infrared_visible(size, seed=seed)]


class Visitor:
    """What the page does."""

    def __init__(self, client):
        self.client = client
        self.session = client.post(f"/{TOKEN}/api/sessions").json()["session"]
        self.base = f"/{TOKEN}/api/sessions/{self.session}"

    def bring(self, *files, names=("ir.png", "vis.png")):
        for i, (content, name) in enumerate(zip(files, names, strict=False)):
            answer = self.client.put(f"{self.base}/files/{i}", params={"name": name}, content=content)
            if answer.status_code != 200:
                return answer
        return self.client.post(f"{self.base}/read")

    def fuse(self, **choices):
        return self.client.post(f"{self.base}/results", json={"choices": choices})

    def wait(self, answer):
        path = f"{self.base}/results/{answer.json()['result']}"
        return path, self.wait_for(path)

    def wait_for(self, path):
        while (now := self.client.get(path).json())["status"] in ("waiting", "running"):
            pass
        return now


@pytest.fixture(scope="module")
def client():
    with TestClient(make_app(TOKEN, None, device="cpu")) as client:
        yield client


@pytest.fixture
def visitor(client):
    visitor = Visitor(client)
    yield visitor
    client.delete(visitor.base)


class TestPage:
    def test_a_pair_is_read_described_fused_and_given_back_at_full_depth(self, visitor, tmp_path):
        files = pair()
        described = visitor.bring(*files).json()
        assert described["scene"] == "infrared and visible"
        assert [(s["name"], s["width"], s["height"]) for s in described["sources"]] == [
            ("ir.png", 80, 60),
            ("vis.png", 80, 60),
        ]
        path, now = visitor.wait(visitor.fuse(prior="laplacian"))
        assert now["status"] == "done"
        for name, content in zip(("ir.png", "vis.png"), files, strict=True):
            (tmp_path / name).write_bytes(content)
        pictures = [read_image(tmp_path / name) for name in ("ir.png", "vis.png")]
        expected = Pipeline(prior="laplacian", device="cpu").fuse_pictures(pictures).picture
        answer = visitor.client.get(f"{path}/file")
        assert "attachment" in answer.headers["content-disposition"]
        found = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.array_equal(found, from_unit(expected.pixels, "8", (0.0, 255.0)))
        for what in ("result", "lost", "invented", "trusted"):
            image = Image.open(io.BytesIO(visitor.client.get(f"{path}/pictures/{what}").content))
            assert image.size == (80, 60)
        figures = visitor.client.get(f"{path}/figures").json()
        assert {"VIF", "kept_others", "halo"} <= set(figures)
        short = [p.name for p in get_registry().of_kind("metric") if p.record.short]
        assert set(short) == {name for name in figures if f"audit.{name}" not in get_registry().names("metric")}
        assert figures["VIF"]["definition"]
        assert (figures["kept_others"]["better"], figures["halo"]["better"]) == ("→1", "↓")
        assert figures["kept_others"]["merit"] == -abs(figures["kept_others"]["value"] - 1)
        assert not {"rims", "rescued", "sharper", "solid"} & set(figures), "made for other kinds of scene"

    def test_16_bits_come_back_as_16_bits(self, visitor):
        grey = [png(image[:, :, :1], 16) for image in infrared_visible((40, 50))]
        visitor.bring(*grey)
        path, now = visitor.wait(visitor.fuse(prior="average"))
        assert now["status"] == "done"
        assert Image.open(io.BytesIO(visitor.client.get(f"{path}/file").content)).mode.startswith("I")

    def test_everything_that_is_on_the_page_comes_from_here(self, client):
        answer = client.get(f"/{TOKEN}/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for name in ("page.js", "page.css", "icon.svg"):
            assert name in answer.text
            content = client.get(f"/{TOKEN}/{name}")
            assert content.status_code == 200
            assert "https://" not in content.text.replace("http://www.w3.org", "")
        assert "style=" not in answer.text
        assert "onclick" not in answer.text

    def test_the_catalog_has_every_prior_with_its_options_and_weights_by_name(self, client):
        catalog = client.get(f"/{TOKEN}/api/catalog").json()
        priors = {row["name"]: row for row in catalog["priors"]}
        assert {"em_tv", "laplacian", "mertens"} <= set(priors)
        assert {"lit", "screen"} <= {field["name"] for field in priors["em_tv"]["options"]}
        fields = {field["name"]: field for field in priors["em_tv"]["options"]}
        assert {"learned-rendered", "focus-rendered"} <= set(fields["focus_weights"]["schema"]["enum"])
        assert [field["name"] for field in catalog["asked"]] == ["task", "look", "align", "resize", "range", "restore"]
        assert set(catalog["asked"][0]["schema"]["enum"]) == {"auto", "ivif", "mef", "mff", "medical"}

    def test_what_is_wrong_is_said_in_one_line(self, visitor):
        assert "two files" in visitor.client.post(f"{visitor.base}/read").json()["error"]
        damaged = visitor.bring(b"\x89PNG\r\n\x1a\n damaged", pair()[1])
        assert damaged.status_code == 422
        assert "ir.png" in damaged.json()["error"]
        assert "/tmp" not in damaged.json()["error"]
        visitor.bring(*pair())
        for choices, word in (
            ({"prior": "nothing"}, "nothing"),
            ({"prior_options": {"lit": -1}}, "lit"),
            ({"prior": "learned", "prior_options": {"weights": "/etc/passwd"}}, "weights"),
            ({"transform": "/etc/passwd"}, "transform"),
            ({"sampler": {"solver": "heun"}}, "solver"),
        ):
            answer = visitor.fuse(**choices)
            assert answer.status_code == 422
            assert word in answer.json()["error"]
        assert visitor.client.get(f"/{TOKEN}/api/sessions/none/sources/0").status_code == 422


class TestMends:
    def test_an_error_carries_the_choices_that_mend_it(self, visitor):
        infrared, visible = infrared_visible((240, 320))
        visitor.bring(png(infrared[::2, ::2]), png(visible))
        _, now = visitor.wait(visitor.fuse(prior="average"))
        assert now["status"] == "failed"
        mends = {mend["label"]: mend["choices"] for mend in now["mends"]}
        assert mends == {"Resize to vis.png": {"resize": "reference"}, "Align with vis.png": {"align": "affine"}}
        for choices in mends.values():
            assert visitor.wait(visitor.fuse(prior="average", **choices))[1]["status"] == "done"

    def test_what_cannot_be_aligned_can_be_fused_as_it_lies(self, visitor):
        noise = np.random.default_rng(0).random((64, 64, 1))
        visitor.bring(png(noise), png(infrared_visible((64, 64))[1]))
        _, now = visitor.wait(visitor.fuse(prior="average", align="affine"))
        assert [mend["choices"] for mend in now["mends"]] == [{"align_or_keep": True}]
        _, now = visitor.wait(visitor.fuse(prior="average", align="affine", align_or_keep=True))
        assert now["status"] == "done"
        assert now["mends"] == []

    def test_a_range_and_the_stored_values_are_those_of_the_file(self, visitor):
        infrared, visible = infrared_visible((40, 50))
        visitor.bring(png(infrared, 16), png(visible))
        values = np.asarray(Image.open(io.BytesIO(png(infrared, 16))))
        found = visitor.client.get(f"{visitor.base}/values", params={"x": 0.5, "y": 0.25}).json()
        assert found["sources"][0] == [values[10, 25]]
        dark, plain = (
            visitor.client.get(f"{visitor.wait(visitor.fuse(prior='average', **choices))[0]}/file").content
            for choices in ({"range": "0,200000 full"}, {})
        )
        assert (
            Image.open(io.BytesIO(dark)).convert("L").getextrema()
            < Image.open(io.BytesIO(plain)).convert("L").getextrema()
        )
        assert "above black" in visitor.fuse(range="9,2").json()["error"]

    def test_a_download_has_the_names_of_the_sources(self, visitor):
        visitor.bring(*pair(), names=("wärme.tiff.png", "vis.png"))
        path, _ = visitor.wait(visitor.fuse(prior="average"))
        header = visitor.client.get(f"{path}/file").headers["content-disposition"]
        assert header.endswith("w%C3%A4rme.tiff%2Bvis-fused.png")

    def test_a_session_outlives_a_reload_but_not_its_page(self, client, visitor, monkeypatch):
        visitor.bring(*pair())
        monkeypatch.setattr("fusionkit.server.sessions.LEFT", 0.05)
        client.post(f"{visitor.base}/leave")
        assert client.post(f"{visitor.base}/read").status_code == 200
        client.post(f"{visitor.base}/leave")
        time.sleep(0.1)
        Visitor(client)
        assert client.post(f"{visitor.base}/read").status_code == 422


class TestRefused:
    def test_without_the_token_there_is_nothing(self, client):
        for path in ("/", "/page.js", "/wrong/", f"/{TOKEN}x/", "/api/catalog", f"//{TOKEN}/"):
            assert client.get(path).status_code == 404

    def test_another_name_of_this_machine_is_not_answered(self):
        with TestClient(
            make_app(TOKEN, frozenset({"127.0.0.1"}), device="cpu"), base_url="http://evil.example"
        ) as other:
            assert other.get(f"/{TOKEN}/").status_code == 421

    def test_too_large_files_and_pictures_and_too_many(self):
        limits = Limits(bytes=60_000, pixels=5000, files=3)
        with TestClient(make_app(TOKEN, None, limits, "cpu")) as client:
            visitor = Visitor(client)
            assert "larger than" in visitor.bring(b"x" * 60_001).json()["error"]
            assert not list(Path(visitor_folder(client, visitor)).iterdir())
            assert "limit" in visitor.bring(*pair(size=(80, 100))).json()["error"]
            answer = client.put(f"{visitor.base}/files/3", params={"name": "a.png"}, content=b"x")
            assert "at most 3" in answer.json()["error"]

    def test_all_files_together_have_limits_too(self, monkeypatch):
        monkeypatch.setattr("fusionkit.server.sessions.LARGEST", 2)
        content, limits = pair()[1], Limits(bytes=10_000, pixels=5000)
        assert 6700 < len(content) < 10_000
        with TestClient(make_app(TOKEN, None, limits, "cpu")) as client:
            visitor = Visitor(client)
            names = ("a.png", "b.png", "c.png")
            said = visitor.bring(content, content, content, names=names).json()["error"]
            assert said == "c.png: all files together are larger than 0.02 MB"
            assert visitor.bring(content, content[:1] * 20, names=names).status_code == 422  # the first made room
        with TestClient(make_app(TOKEN, None, Limits(pixels=5000), "cpu")) as client:
            said = Visitor(client).bring(*[content] * 3, names=names).json()["error"]
            assert said == "all pictures together have more than 0.01 megapixels"

    def test_a_name_cannot_leave_the_folder(self, client, visitor):
        for name in ("../../evil.png", "..\\..\\evil.png", "/etc/evil.png", "...", "a" * 500 + ".png"):
            answer = client.put(f"{visitor.base}/files/0", params={"name": name}, content=b"x")
            assert answer.status_code == 200

    def test_a_public_address_must_be_wanted(self):
        with pytest.raises(OptionError, match="allow_remote"):
            serve(host="0.0.0.0")
        refused = run_cli("serve", "--host", "0.0.0.0")
        assert refused.returncode == 2
        assert "--allow-remote" in refused.stderr
        with pytest.raises(OptionError, match="token"):
            serve(token="short")
        with pytest.raises(OptionError, match="`device` has no effect"):
            serve(device="auto", study=Path("study"))

    @pytest.mark.parametrize(
        ("shape", "stored", "said"),
        [
            ((3, 40, 50), {}, "3 pictures; save the one"),
            ((40, 50, 5), {"planarconfig": "contig"}, "5 bands; save the one"),
        ],
    )
    def test_pictures_and_bands_that_cannot_be_chosen_here_are_not_offered(self, visitor, shape, stored, said):
        tifffile = pytest.importorskip("tifffile")
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.zeros(shape, np.uint8), photometric="minisblack", **stored)
        error = visitor.bring(stream.getvalue(), pair()[1], names=("many.tif", "vis.png")).json()["error"]
        assert said in error
        assert "#1" not in error
        assert "=" not in error


def visitor_folder(client, visitor):
    """Where a session's files lie."""
    return client.app.state.sessions.get(visitor.session).folder


class TestMany:
    def test_ten_at_once_get_their_own_results(self, client):
        expected, found = {}, {}

        def visit(seed):
            visitor = Visitor(client)
            visitor.bring(*pair(seed))
            path, now = visitor.wait(visitor.fuse(prior="average"))
            found[seed] = (now["status"], client.get(f"{path}/file").content)
            client.delete(visitor.base)

        threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed in range(10):
            arrays = [np.asarray(Image.open(io.BytesIO(content))) for content in pair(seed)]
            expected[seed] = Pipeline(prior="average", device="cpu").fuse(*arrays)
            status, content = found[seed]
            assert status == "done"
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), expected[seed])

    def test_a_full_queue_is_said_and_cancelled_jobs_are_not_done(self, monkeypatch):
        going, go_on = threading.Event(), threading.Event()
        real = Pipeline.fuse_pictures

        def slow(self, *args, **how):
            going.set()
            assert go_on.wait(20)
            return real(self, *args, **how)

        monkeypatch.setattr(Pipeline, "fuse_pictures", slow)
        with TestClient(make_app(TOKEN, None, Limits(waiting=1), "cpu")) as client:
            visitor = Visitor(client)
            visitor.bring(*pair())
            first = visitor.fuse(prior="average")
            assert going.wait(20)
            second = visitor.fuse(prior="max")
            assert second.status_code == 200
            third = visitor.fuse(prior="average")
            assert third.status_code == 503
            assert "waiting" in third.json()["error"]
            client.delete(f"{visitor.base}/results/{second.json()['result']}")
            go_on.set()
            assert visitor.wait(first)[1]["status"] == "done"
            assert visitor.wait(second)[1]["status"] == "cancelled"

    def test_nothing_is_kept_of_old_sessions_or_after_the_end(self):
        with TestClient(make_app(TOKEN, None, Limits(sessions=2), "cpu")) as client:
            visitors = [Visitor(client) for _ in range(3)]
            assert visitors[0].bring(*pair()).status_code == 422  # made room
            visitors[2].bring(*pair())
            folder = visitor_folder(client, visitors[2])
            assert list(folder.iterdir())
            client.delete(visitors[2].base)
            assert not folder.exists()
            root = folder.parent
        assert not root.exists()

    def test_idle_sessions_go(self):
        with TestClient(make_app(TOKEN, None, Limits(idle=0.05), "cpu")) as client:
            visitor = Visitor(client)
            time.sleep(0.1)
            Visitor(client)
            assert visitor.bring(*pair()).status_code == 422


class TestRecipes:
    CHOICES = {
        "task": "ivif",
        "look": "faithful",
        "prior_options": {"lit": 0.3, "evidence": "heat"},
        "restore": "none",
        "sampler": {"steps": 2, "strength": 0.1},
    }

    def test_a_command_is_one_that_run_takes(self, tmp_path):
        for name, content in zip(("a ir.png", "vis.png"), pair(), strict=True):
            (tmp_path / name).write_bytes(content)
        import shlex

        words = shlex.split(as_command({**self.CHOICES, "sampler": {}}, ["a ir.png", "vis.png"]))
        assert words[:2] == ["fusionkit", "run"]
        moved = [str(tmp_path / w) if w.endswith(".png") else w for w in words[2:]]
        run_cli("run", *moved, "--device", "cpu")
        made = np.asarray(Image.open(tmp_path / "fused.png"))
        arguments = {**self.CHOICES, "sampler": {}, "device": "cpu"}
        import fusionkit

        assert np.array_equal(made, fusionkit.fuse(tmp_path / "a ir.png", tmp_path / "vis.png", **arguments))

    def test_several_degradations_are_an_option_each(self):
        words = as_command({"restore": ["1=noise:level=8", "2=noise:level=20"]}, ["a.png", "b.png"])
        assert "--restore 1=noise:level=8 --restore 2=noise:level=20" in words

    def test_ranges_and_switches_are_written_as_each_form_takes_them(self):
        choices, names = {"range": "0,4095 full", "align": "rigid", "align_or_keep": True}, ["a.png", "b.png"]
        command = as_command(choices, names)
        assert "--range 0,4095 --range full --align rigid --align-or-keep -o" in command
        assert "read_image('a.png', (0.0, 4095.0)), fusionkit.read_image('b.png', 'full'), align=" in as_python(
            choices, names
        )
        assert as_toml(choices).startswith("# sources were read with the range 0,4095 full\nalign = ")

    def test_a_preset_and_a_call_mean_the_same(self, tmp_path):
        (tmp_path / "p.toml").write_text(as_toml(self.CHOICES))
        others = {k: v for k, v in self.CHOICES.items() if k != "task"}
        assert choose(None, tmp_path / "p.toml", {}) == choose("ivif", None, others)
        call = as_python(self.CHOICES, ["a.png"])
        compile(call, "page", "exec")
        assert "task='ivif'" in call
