"""Probes: of real processes that are well, draining, deaf, stopped; and the verdicts alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ, Worker, WorkerOptions
from streamq.cli import main
from streamq.cli.check import _Local
from streamq.probes import health
from streamq.probes.health import Facts
from tests.ports import free_port
from tests.processes.conftest import Start, alive
from tests.running import begun, until, wait_until

TOKEN = "a-long-drain-token"  # noqa: S105


@pytest.mark.parametrize(
    ("facts", "alive", "ready"),
    [
        (Facts("w"), True, True),
        (Facts("w", started=False), True, False),
        (Facts("w", draining=True), True, False),
        (Facts("w", loop_late=health.LOOP_BUSY + 1), True, False),
        (Facts("w", loop_late=health.LOOP_BLOCKED + 1), False, False),
        (Facts("w", not_reading=health.NOT_READING + 1), True, False),
        (Facts("w", redis_unreachable=health.REDIS_UNREACHABLE - 1), True, True),
        (Facts("w", redis_unreachable=health.REDIS_UNREACHABLE + 1), True, False),
        (Facts("w", overdue="reclaim"), True, False),
    ],
)
def test_verdicts(facts: Facts, alive: bool, ready: bool) -> None:
    assert (not health.not_alive(facts), not health.not_ready(facts)) == (alive, ready)
    assert health.not_alive(facts, age=health.REPORT_TIMEOUT + 1)


def test_a_group_can_be_drained_over_http(jobs: StreamQ, group: Any) -> None:
    process, endpoint = group(STREAMQ_DRAIN_TOKEN=TOKEN)
    assert endpoint.ask("/live").json == {"ok": True, "problems": [], "role": "worker"}
    handle = jobs.send("work", {"seconds": 1.0})
    wait_until(lambda: handle.status() == "running")
    good = f"Bearer {TOKEN}"
    assert endpoint.ask("/drain", "POST", Origin="http://evil.example", Authorization=good).status == 403
    assert endpoint.ask("/drain").status == 405
    for wrong in ("", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer \xff"):
        assert endpoint.ask("/drain", "POST", Authorization=wrong).status == 403
    assert endpoint.ask("/drain", "POST").status == 403  # also from this host: a proxy asks from here too
    assert endpoint.status("/ready") == 200
    assert endpoint.ask("/drain", "POST", Authorization=good).status == 202
    wait_until(lambda: endpoint.status("/ready") == 503)
    assert endpoint.status("/live") == 200
    assert process.wait(20) == 0
    assert handle.status() == "completed"


def test_a_daemon_can_be_drained_over_its_socket_only(jobs: StreamQ, daemon: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    process, endpoint = daemon("--health-socket", str(path))
    assert endpoint.ask("/ready").json["role"] == "daemon"
    for authorization in ("", "Bearer", "Bearer "):
        answer = endpoint.ask("/drain", "POST", Authorization=authorization)
        assert (answer.status, b"--health-socket" in answer.body) == (403, True)
    connection = _Local(str(path))
    connection.request("POST", "/drain")
    assert connection.getresponse().status == 202
    connection.close()
    assert process.wait(20) == 0


def test_a_group_is_not_alive_while_a_process_is_stopped(
    jobs: StreamQ, group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, endpoint = group()
    [pid] = alive(jobs)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: endpoint.status("/live") == 503, 30)
    assert "has sent no report" in endpoint.ask("/live").json["problems"][0]
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: endpoint.status("/ready") == 200)


def test_a_port_that_is_taken_is_named(start: Start, log: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert start("worker", "tests.processes.jobs:app", "--metrics-port", port).wait(20) == 1
        assert start("daemon", "--metrics-port", port).wait(20) == 1
    assert log().count("cannot listen on 127.0.0.1") == 2
    assert start("daemon", "--metrics-port", "http").wait(20) == 2


async def test_a_worker_that_could_read_but_does_not_is_not_ready(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "NOT_READING", 0.2)
    monkeypatch.setattr("streamq.worker.status.REPLY_TIMEOUT", 0.1)

    @app.task
    async def noop() -> None: ...

    worker = Worker(app, WorkerOptions(concurrency=2, block=0.1, heartbeat=0.1), metered=True)
    task = await begun(worker)
    [fetcher] = worker.parts.shard_fetchers.fetchers
    hold = asyncio.Event()
    await until(
        lambda: worker.parts.status._could_read_since > 0 and not health.not_ready(worker.report().facts)
    )
    monkeypatch.setattr(fetcher, "_read", hold.wait)
    await until(lambda: any("has not fetched for" in one for one in health.not_ready(worker.report().facts)))
    await until(lambda: any(w.details["problems"] for w in app.inspector.workers()))
    monkeypatch.undo()
    hold.set()
    worker.stop()
    await task


# -- streamq check ---------------------------------------------------------------------------------------


def check(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any]:
    code = main(["check", *args, "--json"])
    return code, json.loads(capsys.readouterr().out or "null")


def test_check_asks_a_process_over_its_port_or_socket(
    jobs: StreamQ, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    path, port = tmp_path / "s", str(free_port())
    assert check(capsys, "--health-socket", str(path))[0] == 6
    args = ("--health-socket", str(path), "--metrics-port", port)
    process = start("worker", "tests.processes.jobs:app", *args)
    wait_until(lambda: check(capsys, "worker", "--health-socket", str(path))[0] == 0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert check(capsys, "worker", "--port", port)[0] == 0
    assert check(capsys, "--live", "--port", port) == (0, {"ok": True, "problems": [], "role": "worker"})
    code, answer = check(capsys, "daemon", "--port", port)
    assert (code, answer["problems"]) == (6, ["the process is a worker, not a daemon"])
    monkeypatch.setenv("STREAMQ_HEALTH_SOCKET", str(path))
    assert check(capsys)[0] == 0
    process.kill()  # leaves its socket behind
    process.wait()
    assert check(capsys)[0] == 6
    process = start("daemon", "--health-socket", str(path))
    wait_until(lambda: check(capsys, "daemon")[0] == 0)
    process.terminate()
    assert process.wait(20) == 0
    assert not path.exists()


def test_check_finds_workers_by_their_heartbeats(
    jobs: StreamQ, url: str, group: Any, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--url", url, "--app", "jobs")
    code, answer = check(capsys, "worker", *where)
    assert (code, answer["problems"]) == (6, [f"no worker on {socket.gethostname()} is alive"])
    process, _ = group()
    assert check(capsys, "worker", *where)[0] == 0
    [worker] = jobs.inspector.workers()
    assert check(capsys, "--group", worker.details["group"], *where)[0] == 0
    assert check(capsys, "--name", worker.name, *where)[0] == 0
    assert check(capsys, "--name", "nobody", *where)[0] == 6
    handle = jobs.send("work", {"seconds": 60})
    wait_until(lambda: handle.status() == "running")
    process.terminate()
    wait_until(lambda: check(capsys, "worker", *where)[0] == 6)
    assert check(capsys, "daemon", *where)[0] == 6
    start("daemon")
    wait_until(lambda: check(capsys, "daemon", *where)[0] == 0)


# -- systemd ---------------------------------------------------------------------------------------------


def test_systemd_is_told_when_a_unit_is_ready_alive_and_stopping(
    jobs: StreamQ, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        told: list[str] = []

        def heard(what: str) -> bool:
            told.extend(listening.recv(4096).decode().split("\n"))
            return what in told

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        process = start("worker", "tests.processes.jobs:app", **environment)
        wait_until(lambda: heard("READY=1"))
        assert "WATCHDOG=1" in told
        told.clear()
        wait_until(lambda: heard("WATCHDOG=1"))
        process.terminate()
        wait_until(lambda: heard("STOPPING=1"))
        assert process.wait(20) == 0
        told.clear()
        process = start("daemon", **environment)
        wait_until(lambda: heard("READY=1"))
        process.terminate()
        wait_until(lambda: heard("STOPPING=1"))
        assert process.wait(20) == 0


def test_a_unit_that_is_not_alive_feeds_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamq.probes import systemd_notifier

    told: list[dict[str, Any]] = []

    def notify(**said: Any) -> bool:
        told.append(said)
        return True

    monkeypatch.setattr("streamq.probes.systemd.notify", notify)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")

    class Sick:
        def not_alive(self) -> list[str]:
            return ["the event loop is blocked"]

        not_ready = not_alive

    systemd_notifier.SystemdNotifier(Sick()).send()
    assert told == [{"STATUS": "the event loop is blocked"}]
