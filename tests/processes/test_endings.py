"""What workers' processes are to handlers, and how they end: signals, output, exit handlers, orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ, TaskDead
from tests.processes.conftest import ROOT, Start, alive, ledger
from tests.running import wait_until

Work = Callable[..., "subprocess.Popen[bytes]"]
EVERYWHERE = ["on_loop", "in_thread", "in_process"]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("where", EVERYWHERE)
def test_what_handlers_start_has_the_default_signals(jobs: StreamQ, worker: Work, where: str) -> None:
    """And a signal to a process that a handler forked is none to the worker."""
    group = worker("--process-slots", "1")
    found: Any = jobs.send(f"signals_{where}").result(30)
    masks, ended = [int(mask, 16) for mask in found[:4]], found[4:]
    for mask in masks:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            assert not mask & 1 << (number - 1), (number.name, found)
    assert ended == ["13", str(-signal.SIGTERM)]
    assert isinstance(jobs.send("work", {"seconds": 0}).result(20), int)  # it was not asked to drain
    group.send_signal(signal.SIGINT)
    assert group.wait(30) == 0


def test_children_of_a_killed_worker_end_with_all_that_they_started(
    jobs: StreamQ, worker: Work, tmp_path: Path
) -> None:
    worker("--process-slots", "2")
    [pid] = alive(jobs)
    jobs.send("with_another")
    jobs.send("forks_in_process").result(30)  # another child, which is idle now
    wait_until(lambda: any(line[0].startswith("below-") for line in ledger(tmp_path)))
    [line] = [line for line in ledger(tmp_path) if line[0].startswith("below-")]
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert int(line[2]) in children
    os.kill(pid, signal.SIGKILL)
    for one in (int(line[0].partition("-")[2]), *children):
        wait_until(lambda one=one: not runs(one))  # type: ignore[misc]


@pytest.mark.parametrize("task_type", ["says", "says_in_process"])
@pytest.mark.parametrize("then", ["sleep", "die"])
def test_what_handlers_print_is_seen_at_once(
    jobs: StreamQ, worker: Work, tmp_path: Path, task_type: str, then: str
) -> None:
    """While the handler runs still, and where these were its last words."""
    worker("--process-slots", "1", PYTHONUNBUFFERED="")
    jobs.send(task_type, {"text": "a word", "then": then})

    def log() -> list[str]:
        return "".join(path.read_text() for path in tmp_path.glob("*.log")).splitlines()

    wait_until(lambda: {"a word", "a word on stderr"} <= set(log()), 15)


def test_a_worker_that_has_drained_ends_as_python_ends(jobs: StreamQ, worker: Work, tmp_path: Path) -> None:
    """With its exit handlers; but a thread that never ends does not keep it."""
    group = worker()
    jobs.send("will_say_goodbye").result(20)
    group.terminate()
    assert group.wait(30) == 0
    assert [line[0] for line in ledger(tmp_path)] == ["goodbye"]
    group = worker()
    jobs.send("leaves_a_thread").result(20)
    began = time.monotonic()
    group.terminate()
    assert group.wait(40) == 0
    assert time.monotonic() - began < 30


def test_a_traceback_tells_of_nothing_but_the_failure(jobs: StreamQ, worker: Work, tmp_path: Path) -> None:
    """On a plain install, without uvloop."""
    (tmp_path / "uvloop.py").write_text("raise ImportError(name=__name__)\n")
    worker()
    handle = jobs.send("fails")
    with pytest.raises(TaskDead):
        handle.result(20)
    [failure] = jobs.inspector.task(handle.id).failures
    assert failure["traceback"].count("Traceback") == 1
    assert "uvloop" not in failure["traceback"]


APP = """
import os, pathlib, sys
from streamq import StreamQ
with open("loaded", "a") as file:
    print(os.getpid(), file=file)
app = StreamQ("jobs")
@app.task
async def work() -> None: ...
"""


def test_the_app_is_loaded_by_those_who_run_it_only(jobs: StreamQ, start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    group = start("worker", "shop:app", "--processes", "2")
    wait_until(lambda: len(alive(jobs)) == 2)
    assert {int(pid) for pid in (tmp_path / "loaded").read_text().split()} == set(alive(jobs))
    group.terminate()
    assert group.wait(30) == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'"),
        ("app = 7", "'shop' has no StreamQ app called 'app'"),
        ("import sys\nsys.exit('no settings')", "SystemExit: no settings"),
        ("from streamq import StreamQ\napp = StreamQ('shop')", "has no task types"),
        ("from streamq import StreamQ\napp = StreamQ('shop', 'embedded://')\n@app.task\ndef a(): ...",
         "does not run on an embedded server"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_app_is_one_line(start: Start, tmp_path: Path, code: str, said: str) -> None:
    """However many processes found out."""
    (tmp_path / "shop.py").write_text(code)
    more = ("--processes", "2", "--with-daemon") if code == "app = 7" else ()
    assert start("worker", "shop:app", *more, STREAMQ_ENV="").wait(30) == 78
    [line] = (tmp_path / "worker-0.log").read_text().splitlines()
    assert line.startswith("streamq: ")
    assert said in line


ADOPTS = """
import ctypes, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # as process 1 of a container it would be given them
from streamq.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_orphans_of_handlers_do_not_become_zombies(jobs: StreamQ, url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "STREAMQ_URL": url, "LEDGER": str(tmp_path / "ledger"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    group = subprocess.Popen(
        [sys.executable, "-c", ADOPTS, "worker", "tests.processes.jobs:app"], env=environment, cwd=tmp_path,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(alive(jobs)) == 1)
        for _ in range(3):
            orphan: Any = jobs.send("leaves_an_orphan").result(20)
            wait_until(lambda orphan=orphan: not Path(f"/proc/{orphan}").exists())  # type: ignore[misc]
        [pid] = alive(jobs)
        os.kill(pid, signal.SIGKILL)  # nobody has taken its exit status: another is started
        wait_until(lambda: any(one != pid for one in alive(jobs)))
        group.terminate()
        assert group.wait(30) == 0
    finally:
        if group.poll() is None:
            os.killpg(group.pid, signal.SIGKILL)
            group.wait()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_subtask_that_ends_the_program_is_its_attempts_failure(
    jobs: StreamQ, worker: Work, tmp_path: Path, loop: str
) -> None:
    """The event loop stops of it; the worker goes on, and so do other tasks that run there."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "uvloop.py").write_text("raise ImportError")
    group = worker("--concurrency", "20", PYTHONPATH=f"{without}:{ROOT}" if loop == "asyncio" else str(ROOT))
    [pid] = alive(jobs)
    beside = jobs.send("steady", {"seconds": 2})
    for error in ("SystemExit", "KeyboardInterrupt"):
        for how in ("group", "gather"):
            with pytest.raises(TaskDead, match=error):
                jobs.send("ends_in_a_subtask", {"error": error, "how": how}).result(20)
        assert jobs.send("ends_in_a_subtask", {"error": error, "how": "later"}).result(20) == error
    assert beside.result(20) == pid
    assert alive(jobs) == [pid]
    group.send_signal(signal.SIGTERM)
    assert group.wait(30) == 0


SIGNALLED_WHILE_STARTING = """
import os, signal, sys
from multiprocessing.popen_spawn_posix import Popen

launch = Popen._launch

def launched(self, process):
    os.kill(os.getpid(), signal.SIGTERM)
    launch(self, process)

Popen._launch = launched
from streamq.cli import main
sys.argv = ["streamq", "worker", "tests.processes.jobs:app", "--processes", "2"]
sys.exit(main())
"""


def test_a_group_that_is_to_end_while_it_starts_a_process_ends_well(url: str, tmp_path: Path) -> None:
    """The signal comes before there is a process to pass it on to; no other one is started."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED_WHILE_STARTING], cwd=tmp_path, capture_output=True,
        check=False, timeout=60,
        env=os.environ | {"STREAMQ_URL": url, "LEDGER": str(tmp_path / "ledger"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr[-2000:]
