"""The worker: it outlives what plug-ins do, and builds each method once."""

import threading

import pytest

pytest.importorskip("fastapi", reason="the page needs the extra serve")
pytest.importorskip("httpx2", reason="these tests need httpx2")
from fastapi.testclient import TestClient
from test_serve import TOKEN, Visitor, pair

from fusionkit.method.pipeline import Pipeline
from fusionkit.server.app import make_app

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
