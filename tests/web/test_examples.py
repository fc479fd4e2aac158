"""The examples with web frameworks, as printed in the documentation: served, enqueued to, and stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ
from tests.ports import free_port
from tests.running import clean, wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("fastapi", "litestar", "flask")
Start = Callable[..., "subprocess.Popen[bytes]"]
UVICORN = ("uvicorn", "shop:web", "--host", "127.0.0.1")
GUNICORN = ("gunicorn", "-w", "2", "--graceful-timeout", "20")
SERVERS = {
    "fastapi-uvicorn": ("fastapi", UVICORN),
    "fastapi-gunicorn": ("fastapi", (*GUNICORN, "shop:web", "-k", "uvicorn_worker.UvicornWorker")),
    "litestar-uvicorn": ("litestar", UVICORN),
    "flask-gunicorn": ("flask", (*GUNICORN, "shop:create_app()")),
    "flask-preload": ("flask", (*GUNICORN, "shop:create_app()", "--preload")),
}
QUICK = ("fastapi-uvicorn", "litestar-uvicorn", "flask-preload")
"""The others start the same programs under another server."""
WORKERS = {"flask": ("flask", "--app", "shop", "streamq", "worker")}


def files(name: str) -> dict[str, str]:
    page = (ROOT / f"ops/docs/site/{name}.md").read_text()
    return dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_example(name: str) -> None:
    assert files(name)["shop.py"] == (ROOT / f"ops/examples/{name}/shop.py").read_text()


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a module's command in the folder of the example; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(module: str, *args: str, **more: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{module}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *args], cwd=tmp_path, stdout=log, stderr=log,
            start_new_session=True,
            env=os.environ | {"STREAMQ_URL": url, "PYTHONPATH": f"{ROOT}:{tmp_path}"} | more,
        )  # fmt: skip
        log.close()
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http
    with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310 - http
        return json.loads(reply.read())


def answers(url: str) -> bool:
    try:
        ask(url)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.long) for case in SERVERS],
)
def test_an_order_is_accepted_run_and_told(
    case: str, start: Start, url: str, any_port: int, tmp_path: Path
) -> None:
    name, (module, *args) = SERVERS[case]
    (tmp_path / "shop.py").write_text(files(name)["shop.py"])
    bind = ("--port", str(any_port)) if module == "uvicorn" else ("--bind", f"127.0.0.1:{any_port}")
    web, base = start(module, *args, *bind), f"http://127.0.0.1:{any_port}"
    wait_until(lambda: answers(f"{base}/tasks/nonsense"), 60)
    tasks = [ask(f"{base}/orders/A{n}", "POST")["task"] for n in range(20)]
    assert len(set(tasks)) == 20
    command = WORKERS.get(name, ("streamq", "worker", "shop:queue"))
    worker = start(*command, "--with-daemon", "--concurrency", "5")
    wait_until(lambda: all(ask(f"{base}/tasks/{one}")["status"] == "completed" for one in tasks), 60)
    assert "A7" in ask(f"{base}/tasks/{tasks[7]}")["result"]
    for process in (web, worker):
        process.send_signal(signal.SIGTERM)
    assert [web.wait(60), worker.wait(60)] in ([0, 0], [-signal.SIGTERM, 0])
    logs = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert "Traceback" not in logs, logs
    clean(StreamQ("shop", url))


@pytest.fixture
def any_port() -> int:
    return free_port()


def test_the_test_on_the_page(tmp_path: Path) -> None:
    for file, text in files("fastapi").items():
        (tmp_path / file).write_text(text)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"], cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "1 passed" in found.stdout, found.stdout + found.stderr


def test_flask_runs_other_commands_for_its_queue(start: Start, url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(files("flask")["shop.py"])
    StreamQ("shop", url).send("invoice", {"order": "A1"})
    for command, code in ((("stats",), 0), (("nonsense",), 2)):
        process = start("flask", "--app", "shop", "streamq", *command, STREAMQ_URL="redis://127.0.0.1:1",
                        FLASK_STREAMQ_URL=url)  # fmt: skip
        assert process.wait(60) == code, (tmp_path / "flask.log").read_text()
    assert "invoice" in (tmp_path / "flask.log").read_text()
