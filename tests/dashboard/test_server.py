"""What the dashboard tells of the server (the doctor's findings) and to Prometheus."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from streamq import StreamQ, get_context
from streamq.dashboard import Bearer, dashboard
from streamq.dashboard.findings import DoctorCache
from streamq.dashboard.redaction import HIDDEN
from streamq.doctor.check import Check
from streamq.doctor.examination import Diagnosis
from streamq.keys import DAEMON_HEARTBEATS, DAEMONS, shard_keys
from streamq.telemetry.catalogue import METRICS
from tests.conftest import command
from tests.dashboard.shop import TRUSTED, Shop, open_shop
from tests.dashboard.test_pages import client
from tests.running import serving, until
from tests.sample_names import base

USERS = Path(__file__).parents[2] / "ops" / "redis" / "users.acl"


@pytest_asyncio.fixture
async def shop(app: StreamQ) -> AsyncIterator[Shop]:
    async with open_shop(app) as (shop, _):
        yield shop


async def test_the_dashboard_measures_its_event_loop_once_it_is_scraped(app: StreamQ) -> None:
    name = "streamq_event_loop_lag_seconds_count"

    async def measured() -> float | None:
        text = (await browser.get("/metrics")).text
        families = text_string_to_metric_families(text)
        found = [one for family in families for one in family.samples if one.name == name]
        assert all(one.labels == {} for one in found)
        return found[0].value if found else None

    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert await measured() is None
        tasks = len(asyncio.all_tasks())
        deadline = time.monotonic() + 20
        while await measured() is None:
            assert time.monotonic() < deadline
        assert len(asyncio.all_tasks()) == tasks


# -- the same as the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (("stats",), "/api/overview"),
        (("workers",), "/api/workers"),
        (("task", "show", "dead"), "/api/tasks/dead"),
        (("task", "show", "completed"), "/api/tasks/completed"),
        (("task", "show", "running"), "/api/tasks/running"),
    ],
)
async def test_the_api_has_what_the_command_prints(
    app: StreamQ, shop: Shop, url: str, args: tuple[str, ...], path: str
) -> None:
    given = [shop.ids.get(arg, arg) for arg in args]
    printed = await command_prints(*given, "--url", url)
    kind, _, name = path.rpartition("/")
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        told = (await browser.get(f"{kind}/{shop.ids.get(name, name)}")).json()
    _same_shape(printed, told)


async def test_the_api_has_the_steps_of_a_task(app: StreamQ) -> None:
    """What a step or a signal is called may repeat arguments, and what it stored too."""

    @app.task
    async def order(customer: str) -> None:
        await get_context().step(f"charge {customer}", lambda: {"paid by": customer})
        await get_context().wait(f"approved {customer}")

    async with serving(app):
        handle = await order.aenqueue("lovelace")
        await until(lambda: app.inspector.task(handle.id).suspended is not None)
        await handle.asignal("other lovelace", 1)
        told = []
        for options in ({}, {"redact": ["customer"]}, {"hide_payloads": True}):
            async with client(dashboard(app, auth=TRUSTED, **options)) as browser:
                told.append((await browser.get(f"/api/tasks/{handle.id}")).json())
    open_, redacted, hidden = told
    assert open_["memos"]["charge lovelace"] == {"paid by": "lovelace"}
    assert open_["suspended"] == {"until_ms": None, "signal": "approved lovelace"}
    assert open_["mailbox"] == {"other lovelace": 1}
    assert redacted["mailbox"] == {f"other {HIDDEN}": 1}
    assert hidden["mailbox"] == {HIDDEN: 1}
    for one in (redacted, hidden):
        assert "lovelace" not in orjson.dumps(one).decode()
        assert len(one["memos"]) == len(open_["memos"]) == 2


async def command_prints(*args: str) -> Any:
    """The object that a command prints, from a process of its own: here the worker writes its log too."""
    command = (sys.executable, "-m", "streamq", *args, "--app", "shop", "--json")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return orjson.loads(out)


def _same_shape(printed: Any, told: Any) -> None:
    """Whatever a command prints about tasks is in the API, under the same names and of the same kind."""
    if isinstance(printed, dict):
        for name in printed.keys() - {"app", "shards", "known_shards", "lease_idle_ms", "running"}:
            assert name in told
            _same_shape(printed[name], told[name])
    elif isinstance(printed, list):
        assert len(printed) == len(told)
        for one, other in zip(printed, told, strict=True):
            _same_shape(one, other)
    elif printed is None or isinstance(printed, float | int):
        assert told is None or isinstance(told, float | int)  # the queue goes on meanwhile
    else:
        assert printed == told


# -- the doctor ------------------------------------------------------------------------------------------


async def test_the_servers_page_shows_what_the_doctor_finds(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = (await browser.get("/server")).text
        assert "a restart loses every task" in page
        assert "redis-cli CONFIG SET appendonly yes" in page
        assert page.index("state fault") < page.index("state warning") < page.index("state ok")
        assert "may be observer, operator" in page


async def test_the_api_tells_it_as_the_command_does(app: StreamQ, shop: Shop, url: str) -> None:
    printed = await command_prints("doctor", "--url", url)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        told = (await browser.get("/api/doctor")).json()
    assert told.pop("age") < 60
    assert told.keys() == printed.keys()
    assert (told["server"], told["ok"]) == (printed["server"], False)
    # The rights differ: the command asks for every role.
    names = [[one["name"] for one in found["checks"] if one["name"] != "rights"] for found in (told, printed)]
    assert names[0] == names[1]


async def test_the_doctor_holds_up_nobody_else(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """It examines in a thread, once for all who ask at the same time."""
    asked, go, times = threading.Event(), threading.Event(), list[int]()

    def examine(*_: Any, **__: Any) -> Diagnosis:
        times.append(1)
        asked.set()
        assert go.wait(10)
        return Diagnosis((Check("here", "ok", "all is well"),))

    monkeypatch.setattr("streamq.dashboard.site.examine", examine)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        waiting = [asyncio.create_task(browser.get("/server")) for _ in range(3)]
        await asyncio.to_thread(asked.wait, 10)
        assert (await browser.get("/api/overview")).status_code == 200
        assert not any(one.done() for one in waiting)
        go.set()
        for one in waiting:
            assert "all is well" in (await one).text
    assert times == [1]


def test_findings_are_looked_for_again_when_they_are_old() -> None:
    seen: list[int] = []

    def examine() -> Diagnosis:
        seen.append(1)
        return Diagnosis(())

    for kept, looked in ((60.0, 1), (-1.0, 3)):
        seen.clear()
        doctor = DoctorCache(examine, kept)
        ages = [doctor.findings().age for _ in range(3)]
        assert len(seen) == looked
        assert all(0 <= age < 60 for age in ages)


@pytest.fixture
def users(url: str) -> Iterator[dict[str, str]]:
    """URLs of the users of ops/redis/users.acl, and of one who may see next to nothing of the server."""
    named = {}
    for line in USERS.read_text().splitlines():
        _, name, *rules = line.split()
        if name in ("viewer", "operator"):
            rules += ["on", f">secret-{name}"]
            command(url, "ACL", "SETUSER", name, "reset", *rules)
            named[name] = url.replace("unix://", f"unix://{name}:secret-{name}@")
            command(url, "ACL", "SETUSER", f"blind{name}", "reset", *rules, "-info")
            named[f"blind{name}"] = url.replace("unix://", f"unix://blind{name}:secret-{name}@")
    yield named
    for name in named:
        command(url, "ACL", "DELUSER", name)


@pytest.mark.parametrize(
    ("user", "read_only", "says", "verdict"),
    [
        ("viewer", True, "user viewer may be observer", "ok"),
        ("viewer", False, "user viewer cannot be operator", "warning"),
        ("operator", False, "user operator may be observer, operator", "ok"),
    ],
)
async def test_rights_are_those_of_the_dashboards_own_user(
    url: str, users: dict[str, str], user: str, read_only: bool, says: str, verdict: str
) -> None:
    StreamQ("shop", url).send("email", {})
    app = StreamQ("shop", users[user])
    async with client(dashboard(app, auth=TRUSTED, read_only=read_only)) as browser:
        checks = (await browser.get("/api/doctor")).json()["checks"]
        assert any(
            says in one["finding"] for one in checks if (one["name"], one["status"]) == ("rights", verdict)
        )
        assert not any(one["status"] == "fault" for one in checks if one["name"] == "rights")
        for path in ("/", "/tasks", "/dead", "/workers", "/schedule", "/server", "/actions"):
            assert (await browser.get(path)).status_code == 200, path


async def test_every_action_is_within_the_rights_of_an_operator(
    app: StreamQ, shop: Shop, users: dict[str, str]
) -> None:
    ids = shop.ids
    [worker] = app.inspector.workers()
    asked = [
        ("pause", {"type": "image"}, "Paused."), ("resume", {"type": "image"}, "Resumed."),
        ("run-now", {"id": ids["scheduled"]}, "ready to run"), ("cancel", {"id": ids["ready"]}, "Cancelled."),
        ("resubmit", {"id": ids["dead"], "payload": '{"order": 3}'}, "as a new task"),
        ("requeue", {"id": ids["other dead"]}, "Requeued."),
        ("drain", {"worker": worker.name}, "asked to drain"),
    ]  # fmt: skip
    async with client(dashboard(StreamQ("shop", users["operator"]), auth=TRUSTED)) as browser:
        for action, body, says in asked:
            answer = await browser.post(f"/api/do/{action}", json=body)
            assert says in answer.json().get("said", answer.text), (action, answer.text)
        assert (await browser.post("/api/do/purge", json={"type": "charge"})).status_code == 200
    async with client(dashboard(StreamQ("shop", users["viewer"]), auth=TRUSTED)) as browser:
        done = app.inspector.actions()
        for action, body, _ in asked:
            await browser.post(f"/api/do/{action}", json=body)
        answer = await browser.post("/api/do/pause", json={"type": "image"})
        assert (answer.status_code, answer.json()["error"]) == (403, "Redis denied the command")
        assert "image" not in app.inspector.paused()
        assert app.inspector.actions() == done
    shop.hold.set()


async def test_a_user_without_info_sees_the_rest(url: str, users: dict[str, str]) -> None:
    StreamQ("shop", url).send("email", {})
    async with client(
        dashboard(StreamQ("shop", users["blindviewer"]), auth=TRUSTED, read_only=True)
    ) as browser:
        page = await browser.get("/server")
        assert (page.status_code, "may not run INFO" in page.text) == (200, True)
        samples = await scraped(browser)
    assert samples["streamq_redis_up",] == 1
    assert ("streamq_redis_memory_used_bytes",) not in samples


# -- Prometheus ------------------------------------------------------------------------------------------


async def scraped(browser: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    answer = await browser.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(sample.labels[label] for label in METRICS[base(sample.name)].labels)): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_prometheus_sees_the_queue(app: StreamQ, shop: Shop) -> None:
    app.admin.pause("image")
    async with client(dashboard(app, auth=Bearer("a-long-token"))) as scraper:
        assert (await scraper.get("/metrics")).status_code == 401
        scraper.headers["authorization"] = "Bearer a-long-token"
        samples = await scraped(scraper)
    for one in app.inspector.stats():
        for state in ("ready", "running", "scheduled", "dead"):
            assert samples["streamq_queue_tasks", "shop", one.type, state] == getattr(one, state)
        assert samples["streamq_tasks_accepted_total", "shop", one.type] == one.counters["accepted"]
        assert samples["streamq_queue_unaccounted", "shop", one.type] == 0
    assert samples["streamq_queue_oldest_seconds", "shop", "image", "ready"] > 0
    assert samples["streamq_queue_paused", "shop", "image"] == 1
    assert samples["streamq_queue_paused", "shop", "email"] == 0
    assert samples["streamq_workers", "shop", "alive"] == 1
    assert samples["streamq_workers_slots", "shop"] == 4
    assert samples["streamq_redis_up",] == 1
    assert samples["streamq_redis_memory_used_bytes",] > 0
    assert any(key[:2] == ("streamq_build_info", "dashboard") for key in samples)


async def test_a_server_that_is_away_is_a_metric_too() -> None:
    app = StreamQ("shop", "redis://127.0.0.1:1/0", patience=0.1)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert (await browser.get("/")).status_code == 503
        samples = await scraped(browser)
        assert samples["streamq_redis_up",] == 0
        assert samples["streamq_redis_errors_total", "dashboard"] == 2


async def test_without_the_extra_it_is_said(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        answer = await browser.get("/metrics")
        assert (answer.status_code, "streamq[metrics]" in answer.text) == (501, True)


# -- heartbeats that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beat",
    [
        b"{}", b"nonsense", b"[]", b'{"problems": ["<script>alert(1)</script>", null]}',
        b'{"types": 5, "running": "x", "problems": {"a": 1}, "concurrency": "many", "draining": []}',
        b'{"types": [{}, null], "running": [1, {}, {"id": 7}, {"id": "<script>alert(1)</script>"}]}',
        b'{"host": "<script>alert(1)</script>", "pid": null, "heartbeat": "often", "running_count": -1}',
    ],
)  # fmt: skip
async def test_any_heartbeat_can_be_shown(app: StreamQ, url: str, beat: bytes) -> None:
    StreamQ("shop", url).send("email", {})
    now = int(app.inspector.now_ms())
    shard = shard_keys("shop", 0)
    for beats, details in ((shard.workers, shard.heartbeats), (DAEMONS, DAEMON_HEARTBEATS)):
        command(url, "ZADD", beats, now, "somebody")
        command(url, "HSET", details, "somebody", beat)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for path in ("/workers", "/api/workers", "/metrics", "/server"):
            answer = await browser.get(path)
            assert answer.status_code == 200, path
            assert "<script>alert" not in answer.text or path.startswith("/api/")
        assert "somebody" in (await browser.get("/workers")).text
