"""Tar shards: local and in a bucket, by one process and by several, killed and resumed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import plan_shards
from fusionkit.batch.shards import fuse_shards
from fusionkit.engines.engine import SerialEngine
from fusionkit.errors import InputError, OutputError
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import infrared_visible
from fusionkit.storage import places
from fusionkit.writing import write_image
from harness import run_cli

PAIRS, SHARDS = 4, 3


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Tar files of pairs with their captions; in the second, one pair is broken and one image alone."""
    root = tmp_path_factory.mktemp("shards")
    (root / "in").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(root / "in" / f"{shard:03d}.tar", "w") as archive:
            for pair in range(PAIRS):
                for kind, image in zip(
                    ("ir", "vis"), infrared_visible((48, 64), seed=PAIRS * shard + pair), strict=True
                ):
                    write_image(root / "a.png", image.astype(np.float32), "8")
                    broken = (shard, pair, kind) == (1, 2, "ir")
                    add(archive, f"day/{pair:04d}.{kind}.png", b"broken" if broken else (root / "a.png").read_bytes())
                add(archive, f"day/{pair:04d}.json", b"{}")
            if shard == 1:
                add(archive, "alone.png", (root / "a.png").read_bytes())
    return root


def run(root, output, *more):
    return run_cli("run", "--prior", "laplacian", "--shards", "in/*.tar", "-o", output, *more, cwd=root)


@pytest.fixture(scope="module")
def serial(shards):
    done = run(shards, "serial")
    assert done.returncode == 1, done.stderr
    assert "3 shards of 11 pairs fused, 0 finished before, 0 failed; 2 pairs failed" in done.stdout
    return {p.name: p.read_bytes() for p in (shards / "serial").glob("*.tar")}


def ledger(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestShards:
    def test_results_and_ledgers_say_what_became_of_each_pair(self, shards, serial):
        with tarfile.open(shards / "serial" / "001.tar") as archive:
            assert archive.getnames() == [f"day/{i:04d}.fused.png" for i in (0, 1, 3)]
        rows = ledger(shards / "serial" / "001.jsonl")
        pairs = {row["key"]: row for row in rows if row["event"] == "pair"}
        assert {key: row["status"] for key, row in pairs.items()} == {
            "alone": "failed",
            "day/0000": "ok",
            "day/0001": "ok",
            "day/0002": "failed",
            "day/0003": "ok",
        }
        assert "day/0002.ir.png" in pairs["day/0002"]["error"]
        assert "/tmp" not in pairs["day/0002"]["error"]
        assert [s["member"] for s in pairs["day/0000"]["sources"]] == ["day/0000.ir.png", "day/0000.vis.png"]
        assert (rows[0]["event"], rows[-1]["event"]) == ("run", "shard")
        assert (rows[-1]["fused"], rows[-1]["failed"]) == (3, 2)

    def test_a_result_is_what_run_makes_of_the_pair(self, shards, serial, tmp_path):
        files = [tmp_path / f"{kind}.png" for kind in ("ir", "vis")]
        with tarfile.open(shards / "in" / "000.tar") as archive:
            for kind, file in zip(("ir", "vis"), files, strict=True):
                file.write_bytes(archive.extractfile(f"day/0001.{kind}.png").read())
        assert run_cli("run", "--prior", "laplacian", *files, "-o", tmp_path / "f.png").returncode == 0
        with tarfile.open(shards / "serial" / "000.tar") as archive:
            fused = archive.extractfile("day/0001.fused.png").read()
        assert fused == (tmp_path / "f.png").read_bytes()

    def test_what_is_finished_is_not_done_again(self, shards, serial):
        again = run(shards, "serial")
        assert "0 shards of 0 pairs fused, 3 finished before" in again.stdout
        (shards / "serial" / "000.tar").write_bytes(b"cut off")
        assert "1 shards of 4 pairs fused, 2 finished before" in run(shards, "serial").stdout
        assert (shards / "serial" / "000.tar").read_bytes() == serial["000.tar"]

    def test_several_processes_make_the_same_bytes(self, shards, serial):
        assert run(shards, "two", "--jobs", 2).returncode == 1
        assert {p.name: p.read_bytes() for p in (shards / "two").glob("*.tar")} == serial

    def test_a_killed_run_leaves_whole_shards_and_is_resumed(self, shards, serial):
        command = [
            sys.executable,
            "-m",
            "fusionkit",
            "run",
            "--prior",
            "laplacian",
            "--shards",
            "in/*.tar",
            "-o",
            "cut",
        ]
        process = subprocess.Popen(command, cwd=shards, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list((shards / "cut").glob("*.tar")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for path in (shards / "cut").glob("[0-9]*.tar"):
            assert path.read_bytes() == serial[path.name]
        run(shards, "cut")
        assert {p.name: p.read_bytes() for p in (shards / "cut").glob("[0-9]*.tar")} == serial

    def test_what_is_no_shard_is_one_line(self, shards, tmp_path):
        (tmp_path / "bad.tar").write_bytes(b"no tar at all" * 100)
        done = run_cli("run", "--shards", tmp_path / "bad.tar", "-o", tmp_path / "out")
        assert done.returncode == 1
        assert "is no tar file, or damaged" in done.stderr
        assert not list((tmp_path / "out").glob("*"))
        with pytest.raises(InputError, match="takes tar files"):
            plan_shards([str(shards / "a.png")], "out")
        with pytest.raises(InputError, match="no tar file is named"):
            plan_shards([str(shards / "none-*.tar")], "out")
        with pytest.raises(OutputError, match="holds the sources"):
            plan_shards([str(shards / "in" / "*.tar")], str(shards / "in"))


class TestLosses:
    """Pairs that cannot be had: never counted as done."""

    @pytest.fixture
    def source(self, shards, tmp_path):
        (tmp_path / "in").mkdir()
        return shutil.copy(shards / "in" / "000.tar", tmp_path / "in" / "a.tar")

    @staticmethod
    def fuse(folder, *more):
        return run(folder, "out", *more)

    @pytest.mark.parametrize("damage", ["header", "block", "cut", "cut in data"])
    def test_a_damaged_archive_fails_as_a_whole_and_is_tried_again(self, source, tmp_path, damage):
        whole = Path(source).read_bytes()
        with tarfile.open(source) as archive:
            at = archive.getmember("day/0002.ir.png").offset
        data = bytearray(whole)
        if damage == "header":
            data[at + 100] ^= 1
        elif damage == "block":
            data[at : at + 512] = bytes(512)
        else:
            data = data[: at + (600 if damage == "cut in data" else 0)]
        Path(source).write_bytes(data)
        for _ in range(2):
            done = self.fuse(tmp_path)
            assert (done.returncode, "0 shards of 0 pairs fused, 0 finished before, 1 failed" in done.stdout) == (
                1,
                True,
            )
            assert "damaged" in done.stderr
            assert not list((tmp_path / "out").glob("*"))
        Path(source).write_bytes(whole)
        assert "1 shards of 4 pairs fused" in self.fuse(tmp_path).stdout

    def test_hidden_members_are_no_images(self, source, tmp_path):
        with tarfile.open(source, "a") as archive:
            add(archive, "day/._0001.ir.png", b"of a Mac")
        assert self.fuse(tmp_path).returncode == 0

    def test_pairs_that_failed_are_counted_at_each_start(self, shards, serial):
        again = run(shards, "serial")
        assert again.returncode == 1
        assert "2 pairs failed" in again.stdout

    def test_a_full_disk_fails_the_shard(self, source, tmp_path, monkeypatch):
        import fusionkit.batch.run as running

        def full(*given, **how):
            raise OSError(28, "No space left on device")

        pipeline, options = Pipeline(prior="average", backbone="identity", device="cpu"), FileOptions()
        plan = plan_shards([str(source)], str(tmp_path / "out")).shards
        with monkeypatch.context() as patch:
            patch.setattr(running, "store_image", full)
            [outcome] = fuse_shards(pipeline, plan, options, SerialEngine())
        assert (outcome.status, "No space left" in outcome.reason) == ("failed", True)
        assert not list((tmp_path / "out").glob("*"))
        [outcome] = fuse_shards(pipeline, plan, options, SerialEngine())
        assert outcome.counts == {"fused": 4, "failed": 0}


def test_braces_and_addresses(tmp_path):
    assert places.expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert places.expand("s3:/bucket/in/a.tar") == ["s3://bucket/in/a.tar"]  # as a Path leaves it
    assert places.beside("s3://bucket/out/", "a.tar") == "s3://bucket/out/a.tar"
    assert places.beside("s3://bucket", "a.tar") == "s3://bucket/a.tar"
    assert places.beside(str(tmp_path), "a.tar") == str(tmp_path / "a.tar")


@pytest.mark.filterwarnings("ignore")
def test_a_bucket_holds_what_a_folder_would(shards, serial, monkeypatch):
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("obstore", reason="needs the extra cloud")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="pairs")
        for path in (shards / "in").glob("*.tar"):
            client.upload_file(str(path), "pairs", f"in/{path.name}")
        arguments = ["run", "--prior", "laplacian", "--shards", "s3://pairs/in/*.tar", "-o", "s3://pairs/out"]
        done = run_cli(*arguments, env=environment)
        assert "s3://pairs/out: 3 shards of 11 pairs fused" in done.stdout, done.stderr
        stored = {name: client.get_object(Bucket="pairs", Key=f"out/{name}")["Body"].read() for name in serial}
        assert stored == serial
        assert "3 finished before" in run_cli(*arguments, env=environment).stdout
        missing = run_cli("run", "--shards", "s3://pairs/none.tar", "-o", "s3://pairs/out", env=environment)
        assert (missing.returncode, "does not exist" in missing.stderr) == (1, True)
        missing = run_cli("run", "--shards", "s3://nobucket/*.tar", "-o", "s3://pairs/out", env=environment)
        assert missing.returncode == 2
        assert len(missing.stderr.splitlines()) == 1
    finally:
        server.stop()
