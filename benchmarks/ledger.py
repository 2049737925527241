"""What the records of very many pairs cost: a folder's manifest read back, and a plan of shards.

    python benchmarks/ledger.py [--rows N] [--shards N]

Rows as `run` writes them are made, without images, and read back by a process of its own, which says its memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROW = {
    "event": "pair", "time": "2026-01-01T00:00:00+00:00", "status": "ok", "method": "0123456789abcdef",
    "sources": [
        {"path": f"/d/{kind}/KEY.png", "sha256": "0" * 64, "bytes": 512_000, "modified_ns": 1_700_000_000_000_000_000}
        for kind in ("ir", "vis")
    ],
    "ranges": [None, None], "reference_source": 2, "notes": ["em_tv: taken for a scene of evidence=heat"],
    "output": {
        "path": "/data/out/KEY.png", "sha256": "0" * 64, "bytes": 700_000, "modified_ns": 1_700_000_000_000_000_000,
        "depth": "8", "size": [1024, 768],
    },
    "restored": [], "evaluations": 0,
    "seconds": {"read": 0.03, "prior": 0.05, "write": 0.05, "total": 0.15}, "peak_memory_mb": 650.0,
}  # fmt: skip
READ = """
import sys, time
from pathlib import Path
from fusionkit.memory import peak_memory_mb
from fusionkit.storage.manifest import Ledger
before, start = peak_memory_mb(), time.perf_counter()
ledger = Ledger(Path(sys.argv[1]) / "manifest.jsonl", "0123456789abcdef")
ledger.refuse_others()
print(time.perf_counter() - start, peak_memory_mb() - before, len(ledger._read[0]))
"""
PLAN = """
import sys, time
from fusionkit.batch.plan import plan_shards
from fusionkit.memory import peak_memory_mb
before, start = peak_memory_mb(), time.perf_counter()
shards = plan_shards([f"s3://pairs/in-{{000000..{int(sys.argv[1]) - 1:06d}}}.tar"], "s3://pairs/out")
print(time.perf_counter() - start, peak_memory_mb() - before, len(shards.shards))
"""


def run(code: str, argument: str) -> tuple[float, float, int]:
    done = subprocess.run([sys.executable, "-c", code, argument], check=True, capture_output=True, text=True)
    seconds, megabytes, count = done.stdout.split()
    return float(seconds), float(megabytes), int(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({**ROW, "key": "KEY"})
        with (Path(folder) / "manifest.jsonl").open("w") as stream:
            for number in range(arguments.rows):
                stream.write(text.replace("KEY", f"{number:08d}") + "\n")
        size = (Path(folder) / "manifest.jsonl").stat().st_size
        seconds, megabytes, count = run(READ, folder)
    print(f"manifest: {count} rows, {size / count:.0f} bytes and {1e6 * seconds / count:.0f} us a row to read, "
          f"{1e6 * megabytes / count:.0f} bytes of memory a row")  # fmt: skip
    seconds, megabytes, count = run(PLAN, str(arguments.shards))
    print(f"plan of {count} shards: {seconds:.2f} s, {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
