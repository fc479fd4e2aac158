"""`streamq dev` as a user has it: real parts, saved files, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamq import StreamQ
from tests.cli.conftest import Capture, run
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import asyncio
from streamq import StreamQ

app = StreamQ("hello")

@app.task
async def greet(name: str) -> str:
    print("greeting", name)
    await asyncio.sleep({seconds})
    return "{answer}"
"""


class Session:
    """A running `streamq dev`, in a folder of its own."""

    def __init__(self, folder: Path, log: Path, *args: str) -> None:
        self.folder, self._log = folder, log
        self.port = free_port()
        base = {n: v for n, v in os.environ.items() if n not in ("STREAMQ_URL", "PYTHONDONTWRITEBYTECODE")}
        ports = ["--port", str(free_port())]
        ports += [] if "--url" in args else ["--server-port", str(self.port)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamq", "dev", "tasks:app", *ports, *args], cwd=folder,
                env=base | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    @property
    def app(self) -> StreamQ:
        """A producer without the code."""
        return StreamQ("hello", f"redis://127.0.0.1:{self.port}/0")

    def log(self) -> str:
        return self._log.read_text()

    def until(self, text: str, times: int = 1, limit: float = 40.0) -> None:
        deadline = time.monotonic() + limit
        while self.log().count(text) < times:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def processes(self) -> list[str]:
        """The command lines of all that belongs to this session: they name the server's port."""
        found: list[str] = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if str(self.port) in words:
                    found.append(words)
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    folder = tmp_path / "project"
    folder.mkdir()
    started: list[Session] = []

    def begin(*args: str, code: str = CODE.format(seconds=0, answer="hello")) -> Session:
        (folder / "tasks.py").write_text(code)
        started.append(Session(folder, tmp_path / f"log{len(started)}", *args))
        return started[-1]

    yield begin
    for session in started:
        if session.process.poll() is None:
            os.killpg(session.process.pid, signal.SIGKILL)
        session.process.wait()
        wait_gone(session)


def wait_gone(session: Session) -> None:
    deadline = time.monotonic() + 20
    while left := session.processes():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_it_runs_everything_and_leaves_nothing(start: Callable[..., Session], number: int) -> None:
    session = start("--sample")
    session.until("sample    | greet:0:", times=3)
    session.until("returned 'hello'", times=3)
    session.until("worker    | greeting sample name", times=3)
    session.until("daemon    | ")
    session.until("dashboard | ready at ")
    address = session.log().partition("dashboard | ready at ")[2].split()[0]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(address, timeout=10) as page:
        assert (page.status, "?token=" in address) == (200, True)
    assert f"export STREAMQ_URL=redis://127.0.0.1:{session.port}/0" in session.log()
    assert """streamq enqueue greet '{"name":"sample name"}'""" in session.log()
    assert session.end(number) == 0
    assert session.processes() == []
    assert [path.name for path in session.folder.iterdir()] == ["tasks.py"]
    assert "Traceback" not in session.log()


def test_a_saved_file_restarts_the_worker_and_loses_nothing(start: Callable[..., Session]) -> None:
    session = start("--no-dashboard", "--drain-timeout", "300ms", code=CODE.format(seconds=60, answer="old"))
    session.until("worker.ready")
    app = session.app
    running = [app.send("greet", {"name": f"n{n}"}) for n in range(12)]  # two more than run at once
    session.until("greeting n", times=10)
    (session.folder / "tasks.py").write_text(CODE.format(seconds=0.01, answer="new"))
    session.until("tasks.py changed")
    assert [handle.result(timeout=30) for handle in running] == ["new"] * 12
    app.close()
    assert session.end() == 0


def test_what_runs_may_finish_when_a_file_is_saved(start: Callable[..., Session]) -> None:
    session = start("--no-dashboard", "--drain-timeout", "20s", code=CODE.format(seconds=1, answer="old"))
    session.until("worker.ready")
    app = session.app
    handle = app.send("greet", {"name": "ada"})
    session.until("greeting ada")
    (session.folder / "tasks.py").write_text(CODE.format(seconds=0, answer="new"))
    assert handle.result(timeout=30) == "old"
    session.until("worker.ready", times=2)
    assert app.send("greet", {"name": "bob"}).result(timeout=30) == "new"
    app.close()
    assert session.end() == 0


def test_code_that_is_wrong_is_told_of_and_the_next_save_waited_for(start: Callable[..., Session]) -> None:
    session = start("--no-dashboard", code="from streamq import StreamQ\n\napp = StreamQ('hello'\n")
    session.until("tasks.py:3: SyntaxError: '(' was never closed")
    session.until("the worker cannot start: save a file to start it again")
    (session.folder / "tasks.py").write_text("import no_such_thing\n")
    session.until("project/tasks.py:1 in <module>: ModuleNotFoundError: No module named 'no_such_thing'")
    session.until("the worker cannot start", times=2)
    (session.folder / "tasks.py").write_text(CODE.format(seconds=0, answer="hello"))
    session.until("worker.ready")
    session.until("daemon.ready")
    (session.folder / "tasks.py").write_text("app = 7\n")
    session.until("'tasks' has no StreamQ app called 'app'")
    session.until("the worker cannot start", times=3)
    assert "Traceback" not in session.log()
    assert session.end() == 0
    assert session.processes() == []


def test_a_worker_that_dies_is_started_again(start: Callable[..., Session]) -> None:
    code = (
        CODE.format(seconds=0, answer="hello")
        + "    \n@app.task\ndef die() -> None:\n    import os\n    os._exit(3)\n"
    )
    session = start("--no-dashboard", code=code)
    session.until("worker.ready")
    app = session.app
    app.send("die")
    session.until("the worker ended with code 3: started again")
    session.until("worker.ready", times=2)
    app.close()
    assert session.end() == 0


def test_kill_9_leaves_no_process(start: Callable[..., Session]) -> None:
    session = start()
    session.until("worker.ready")
    session.until("dashboard | ready at ")
    session.process.kill()
    session.process.wait()
    wait_gone(session)


def test_data_is_kept_on_request(start: Callable[..., Session], tmp_path: Path) -> None:
    data = tmp_path / "data"
    session = start("--no-dashboard", "--data", str(data))
    session.until("worker.ready")
    app = session.app
    handle = app.send("greet", {"name": "ada"}, delay=3600)
    second = start("--no-dashboard", "--data", str(data))
    assert second.process.wait(20) == 2
    assert f"a server already runs in {data}" in second.log()
    app.close()
    assert session.end() == 0
    session = start("--no-dashboard", "--data", str(data))
    session.until("worker.ready")
    app = session.app
    assert app.handle(handle.id).status() == "scheduled"
    app.close()
    assert session.end() == 0
    assert [path.name for path in session.folder.iterdir()] == ["tasks.py"]


def test_a_server_that_runs_already(start: Callable[..., Session], url: str) -> None:
    session = start("--no-dashboard", "--url", url)
    session.until("worker.ready")
    app = StreamQ("hello", url)
    assert app.send("greet", {"name": "ada"}).result(timeout=20) == "hello"
    session.until("daemon.ready")
    assert session.end() == 0
    assert app.inspector.type_stats("greet").counters["completed"] == 1
    app.close()


def test_the_app_s_code_names_another_server(start: Callable[..., Session]) -> None:
    session = start(
        "--no-dashboard", code="from streamq import StreamQ\napp = StreamQ('hello', 'redis://prod:1/0')\n"
    )
    session.until(
        "the app's code names the server redis://prod:1/0, but this session's is redis://127.0.0.1:"
    )
    assert session.end() == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tasks.py"], "'tasks.py' is not an app: write it as module:attribute, such as tasks:app"),
        (["a b:app"], "is not an app"),
        (["tasks:app", "--url", "redis://x", "--data", "x"], "leave out --data and --server-port"),
        (["tasks:app", "--port", "0"], "--port 0 is not a port"),
        (["tasks:app", "--url", "embedded://"], "dev starts an embedded server itself"),
        (["tasks:app", "--watch", "/no/such"], "--watch '/no/such' is not a folder"),
        (["tasks:app", "--drain-timeout", "soon"], "not a duration. Write"),
        (["tasks:app", "--concurrency", "0"], "must be a whole number of at least 1"),
    ],
)
def test_wrong_input(capsys: Capture, args: list[str], said: str) -> None:
    code, _, err = run(capsys, "dev", *args)
    assert (code, said in err, err.count("\n")) == (2, True, 1)
