"""The worker: it outlives what plug-ins do, and builds each method once."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the page needs the extra serve")
pytest.importorskip("httpx2", reason="these tests need httpx2")
from fastapi.testclient import TestClient
from test_serve import TOKEN, Visitor, pair

from fusionkit.images.picture import Picture
from fusionkit.method.pipeline import Pipeline
from fusionkit.server.app import make_app
from fusionkit.server.previews import shrunk

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_plugin_that_exits_fails_its_job_and_no_other(monkeypatch):
    real = Pipeline.fuse_pictures

    def exits(self, *args, **how):
        if str(self.config.prior) == "max":
            raise SystemExit(0)
        return real(self, *args, **how)

    monkeypatch.setattr(Pipeline, "fuse_pictures", exits)
    with TestClient(make_app(TOKEN, None, device="cpu")) as client:
        visitor = Visitor(client)
        visitor.bring(*pair())
        _, gone = visitor.wait(visitor.fuse(prior="max"))
        assert gone["status"] == "failed"
        assert gone["reason"].startswith("SystemExit")
        assert visitor.wait(visitor.fuse(prior="average"))[1]["status"] == "done"


def test_small_jobs_run_beside_a_large_one_and_before_larger_ones_that_wait(monkeypatch):
    order, going, go_on, real = [], threading.Event(), threading.Event(), Pipeline.fuse_pictures

    def slow(self, pictures, *args, **how):
        order.append(pictures[0].size[0])
        if pictures[0].size[0] == 80:
            going.set()
            assert go_on.wait(20)
        return real(self, pictures, *args, **how)

    monkeypatch.setattr(Pipeline, "fuse_pictures", slow)
    monkeypatch.setattr("fusionkit.server.work.LINES", ((2 * 60 * 79, 0), (1e9, 0)))
    with TestClient(make_app(TOKEN, None, device="cpu")) as client:
        visitors = {width: Visitor(client) for width in (80, 200, 120, 40)}
        for width, visitor in visitors.items():
            visitor.bring(*pair(size=(60, width)))
        asked = {80: visitors[80].fuse(prior="average")}
        assert going.wait(20)
        asked |= {width: visitors[width].fuse(prior="average") for width in (200, 120)}
        assert visitors[40].wait(visitors[40].fuse(prior="average"))[1]["status"] == "done"
        last = client.get(f"{visitors[200].base}/results/{asked[200].json()['result']}").json()
        assert (last["status"], last["place"]) == ("waiting", 3)
        assert last["left"] > 0
        go_on.set()
        assert all(visitors[width].wait(asked[width])[1]["status"] == "done" for width in asked)
        assert order == [80, 40, 120, 200]


def test_a_pipeline_is_built_once_a_method_and_only_to_fuse(monkeypatch):
    built, real = [], Pipeline.__init__

    def counted(self, config=None, **how):
        built.append(str(config.prior))
        real(self, config, **how)

    monkeypatch.setattr(Pipeline, "__init__", counted)
    with TestClient(make_app(TOKEN, None, device="cpu")) as client:
        visitor = Visitor(client)
        assert visitor.bring(*pair()).status_code == 200
        visitor.wait(visitor.fuse(prior="average"))  # the worker has warmed up by now
        assert built == ["em_tv", "average"]
        recipe = {"choices": {"prior": "max", "prior_options": {}}, "names": ["a.png", "b.png"]}
        assert client.post(f"/{TOKEN}/api/recipe", json=recipe).status_code == 200
        assert client.get(f"/{TOKEN}/api/catalog").status_code == 200
        assert visitor.fuse(prior="max", color="no such").status_code == 422
        visitor.bring(*pair(1))
        visitor.wait(visitor.fuse(prior="average"))
        visitor.wait(visitor.fuse())
        assert built == ["em_tv", "average"]
        visitor.wait(visitor.fuse(prior="max"))
        assert built == ["em_tv", "average", "max"]


class TestPreviews:
    @pytest.fixture
    def held(self, monkeypatch):
        """Full sizes wait for this event; every job that can has a preview, and is of the last line."""
        go_on, real = threading.Event(), Pipeline.fuse_pictures

        def slow(self, pictures, *args, **how):
            assert pictures[0].size[0] < 160 or go_on.wait(20)
            return real(self, pictures, *args, **how)

        monkeypatch.setattr(Pipeline, "fuse_pictures", slow)
        monkeypatch.setattr("fusionkit.server.work.SOON", 0)
        monkeypatch.setattr("fusionkit.server.work.LINES", ((2 * 60 * 80, 0), (2 * 60 * 80, 0), (1e9, 0)))
        yield go_on
        go_on.set()

    @staticmethod
    def seen(client, visitor, answer):
        """The status as soon as there is a preview."""
        path = f"{visitor.base}/results/{answer.json()['result']}"
        while not (now := client.get(path).json())["preview"]:
            assert now["status"] in ("waiting", "running")
        return path, now

    def test_a_preview_is_what_the_method_makes_of_smaller_sources(self, held):
        with TestClient(make_app(TOKEN, None, device="cpu")) as client:
            visitor = Visitor(client)
            visitor.bring(*pair(size=(121, 160)))
            path, now = self.seen(client, visitor, visitor.fuse(prior="average"))
            assert now["preview"] == 3
            image = Image.open(io.BytesIO(client.get(f"{path}/pictures/preview").content))
            assert image.size == (54, 41)
            assert client.get(f"{path}/pictures/result").status_code == 422
            assert client.get(f"{visitor.base}/values", params={"x": 0.5, "y": 0.5}).json()["results"]
            held.set()
            assert visitor.wait_for(path)["status"] == "done"
            full = Image.open(io.BytesIO(client.get(f"{path}/file").content))
            assert full.size == (160, 121)
            small = full.crop((0, 0, 159, 120)).resize((53, 40), Image.Resampling.BOX)
            apart = np.abs(np.asarray(image.crop((0, 0, 53, 40)), float) - np.asarray(small, float))
            assert apart.mean() < 1

    def test_the_largest_wait_until_nobody_chooses_or_somebody_waits_for_them(self, held, monkeypatch):
        monkeypatch.setattr("fusionkit.server.work.SETTLE", 3600)
        monkeypatch.setattr("fusionkit.server.work.PATIENCE", 1e9)
        held.set()
        with TestClient(make_app(TOKEN, None, device="cpu")) as client:
            visitor = Visitor(client)
            visitor.bring(*pair(size=(120, 160)))
            path, _ = self.seen(client, visitor, visitor.fuse(prior="average"))
            assert client.get(path).json()["status"] == "waiting"
            client.post(f"{path}/want")
            assert visitor.wait_for(path)["status"] == "done"
            full = client.post(f"{visitor.base}/results", json={"choices": {"prior": "max"}, "full": True})
            assert visitor.wait(full)[1]["preview"] == 0

    def test_sources_of_two_sizes_are_refused_at_once(self, held):
        with TestClient(make_app(TOKEN, None, device="cpu")) as client:
            first, second = Visitor(client), Visitor(client)
            first.bring(*pair(size=(120, 160)))
            self.seen(client, first, first.fuse(prior="average"))
            [held_up] = client.app.state.sessions.get(first.session).results.values()
            while held_up.status != "running":
                pass
            second.bring(pair(size=(100, 140))[0], pair(size=(120, 160))[1])
            _, now = second.wait(second.fuse(prior="average"))
            assert "ir.png is 140x100 but vis.png is 160x120" in now["reason"]
            assert now["mends"]

    def test_what_is_known_of_each_pixel_shrinks_with_the_picture(self):
        values = np.arange(60, dtype=np.uint16).reshape(6, 10, 1)
        valid = np.ones((6, 10), bool)
        valid[:2, :2] = False
        picture = Picture(values, "16", (0.0, 100.0), valid=valid, alpha=valid.astype(np.float32))
        small = shrunk(picture, 4)
        assert small.size == (3, 2)
        assert small.pixels[0, 0, 0] == pytest.approx(values[:4, :4].mean() / 100, abs=1e-6)
        assert small.pixels[1, 2, 0] == pytest.approx(values[4:, 8:].mean() / 100, abs=1e-6)
        assert small.alpha[0, 0] == 0.75
        assert small.valid.all()
        valid[:4, :2] = False
        assert not shrunk(picture, 4).valid[0, 0]


def test_results_are_kept_as_a_file_has_them_and_forgotten_ones_not_at_all():
    with TestClient(make_app(TOKEN, None, device="cpu")) as client:
        visitor = Visitor(client)
        visitor.bring(*pair())
        path, _ = visitor.wait(visitor.fuse(prior="average"))
        result = client.app.state.sessions.get(visitor.session).result(path.rpartition("/")[2])
        assert result.done.picture.values.dtype == np.uint8
        client.delete(path)
        assert result.fused is None
        assert not result.seen
        assert not result.pictures
