"""The number of shards changed under load, with workers and producers of the release before still there."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.control.inspector import apps
from tests.processes.conftest import ROOT, Start, alive, ledger
from tests.running import clean, wait_until

Work = Callable[..., "subprocess.Popen[bytes]"]
QUICK = ("daemon", "--claim-interval", "200ms", "--tidy-interval", "300ms")

PRODUCER = """
import itertools, pathlib, sys, time
from streamq import StreamQ
app = StreamQ("jobs", sys.argv[1], shards=int(sys.argv[2]))
for n in itertools.count():
    print(app.send("steady", {"seconds": 0}, delay=0.05 if n % 5 == 0 else None).id, flush=True)
    time.sleep(0.005)
    if pathlib.Path(sys.argv[3]).exists():
        break
"""


@pytest.mark.parametrize(("before", "after"), [(1, 4), pytest.param(4, 1, marks=pytest.mark.long)])
def test_a_deploy_with_another_number_of_shards_loses_nothing(
    jobs: StreamQ, url: str, worker: Work, start: Start, tmp_path: Path, before: int, after: int
) -> None:
    def produce(shards: int) -> subprocess.Popen[bytes]:
        with (tmp_path / f"sent-{shards}").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-c", PRODUCER, url, str(shards), str(tmp_path / "enough")],
                stdout=out, cwd=ROOT,
            )  # fmt: skip

    def sent(shards: int) -> list[str]:
        return (tmp_path / f"sent-{shards}").read_text().split()

    def record() -> tuple[int, int]:
        found = apps(jobs._client.transport)["jobs"]
        return found.shards, found.known

    start(*QUICK)
    worker("--concurrency", "20", SHARDS=str(before))
    producers = [produce(before)]
    wait_until(lambda: len(sent(before)) > 50)
    new_worker = worker("--concurrency", "20", SHARDS=str(after))
    producers.append(produce(after))
    wait_until(lambda: len(sent(after)) > 100)
    at = len(sent(before))
    wait_until(lambda: len(sent(before)) > at + 100)  # both releases produce at the same time
    (tmp_path / "enough").touch()
    assert [producer.wait(20) for producer in producers] == [0, 0]
    tasks = {*sent(before), *sent(after)}
    assert {one.split(":")[1] for one in tasks} == {str(n) for n in range(4)}
    wait_until(lambda: {line[1] for line in ledger(tmp_path) if line[0] == "done"} == tasks)
    runs = Counter(line[1] for line in ledger(tmp_path) if line[0] == "start")
    assert max(runs.values()) == 1
    wait_until(lambda: record() == (after, after))
    assert len(alive(jobs)) == 2  # the old worker serves as well as the new one
    new_worker.terminate()
    assert new_worker.wait(20) == 0
    assert isinstance(jobs.send("work", {"seconds": 0}).result(20), int)
    clean(jobs)
