"""Every page and every object of the API over a live queue; what a payload says is never markup."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

from streamq import StreamQ
from streamq.dashboard import dashboard
from streamq.dashboard.render import STATIC
from streamq.keys import type_keys
from tests.conftest import command
from tests.dashboard.shop import HOSTILE, TRUSTED, Shop, open_shop
from tests.running import until

LOCAL = ("127.0.0.1", 40000)


def client(site: Any, **more: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(site, client=more.pop("address", LOCAL))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", **more)


@pytest_asyncio.fixture
async def shop(app: StreamQ) -> AsyncIterator[Shop]:
    async with open_shop(app) as (shop, _):
        yield shop


async def test_every_page_shows_what_is_there(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:

        async def page(path: str, *wanted: str) -> str:
            answer = await browser.get(path)
            assert answer.status_code == 200, (path, answer.text)
            text = answer.text
            for part in wanted:
                assert part in text, (path, part)
            assert "<script>alert" not in text
            assert "<img" not in text
            return text

        ids = shop.ids
        await page("/", "email", "charge", "report", "image", "Dead letters", "wait p95")
        assert (await browser.get("/types")).headers["location"] == "/"
        await page(
            "/types/charge",
            "Policy",
            "An attempt may take 30 s",
            "ValueError",
            "Counters since the first task",
        )
        for state in ("ready", "running", "scheduled", "dead", "completed", "cancelled"):
            await page(f"/tasks?state={state}", ids[state])
        await page("/tasks?state=expired", "Nothing here")
        await page("/tasks?state=dead&error=order+-2", ids["other dead"])
        assert ids["dead"] not in await page("/tasks?state=dead&error=order+-2&type=charge&older=0s&newer=1h")
        await page(
            f"/tasks/{ids['dead']}", "attempt 1 failed", "attempt 2 failed", "Traceback", "Requeue", "Purge"
        )
        await page(f"/tasks/{ids['completed']}", "sent to ada@example.com")
        await page(f"/tasks/{ids['running']}", "Cancel", "running")
        await page(f"/tasks/{ids['scheduled']}", "Run now", "&lt;script&gt;alert(1)&lt;/script&gt;")
        await page("/dead", "ValueError", "in charge", "Requeue", "Purge")
        await page("/dead?type=charge", "Requeue all of charge")
        await page("/workers", "Drain", "report", ids["running"])
        await page("/schedule", ids["scheduled"], "next in")
        await page("/server", "noeviction", "Append-only file")
        await page("/actions", "No actions yet")


async def test_each_attempt_is_on_the_time_line(app: StreamQ, shop: Shop) -> None:
    """Worker, how long it waited and ran, and what it failed with; also of the attempt that runs."""
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        told = (await browser.get(f"/api/tasks/{shop.ids['dead']}")).json()
        for n, one in enumerate(told["failures"], 1):
            assert (one["attempt"], one["error"]) == (n, "ValueError")
            assert 0 <= one["run_ms"] < 5000
            assert 0 <= one["wait_ms"] < 5000
            assert one["worker"]
        page = (await browser.get(f"/tasks/{shop.ids['dead']}")).text
        assert len(re.findall(r"waited [\d.]+ m?s · ran [\d.]+ m?s", page)) == 2
        page = (await browser.get(f"/tasks/{shop.ids['running']}")).text
        assert re.search(
            r"attempt 1 running</b> since <time[^>]*>[^<]*</time> on <code>[^<]+</code> <small>waited", page
        )


async def test_the_attempt_that_completed_a_task_is_on_the_time_line(app: StreamQ, url: str) -> None:
    async with open_shop(app) as (shop, worker), client(dashboard(app, auth=TRUSTED)) as browser:
        retried = await shop.charge.aenqueue(5, note="once")
        assert await retried.aresult(5) == 5
        shop.ids["retried"] = retried.id
        for name, attempt in (("completed", 1), ("retried", 2)):
            told = (await browser.get(f"/api/tasks/{shop.ids[name]}")).json()
            one = told["success"]
            assert (one["attempt"], one["worker"], told["attempts_failed"]) == (
                attempt,
                worker.name,
                attempt - 1,
            )
            assert 0 <= one["wait_ms"] < 5000
            assert 0 <= one["run_ms"] < 5000
            assert told["detail"]["ended_ms"] == str(one["at_ms"])
            assert abs(one["at_ms"] - app.inspector.now_ms()) < 30_000
            page = (await browser.get(f"/tasks/{shop.ids[name]}")).text
            assert re.search(
                rf"attempt {attempt} completed</b> <time[^>]*>[^<]*</time> on <code>{worker.name}</code>"
                r" <small>waited [\d.]+ m?s · ran [\d.]+ m?s", page,
            )  # fmt: skip
        mark = worker.name[-6:]
        rows = (await browser.get("/api/tasks?state=completed&type=charge")).json()["tasks"]
        assert [(row["worker"], row["attempts_failed"], row["result"]) for row in rows] == [
            (f"…{mark}", 1, "5")
        ]
        command(url, "DEL", "streamq:{shop:0}workers")
        told = (await browser.get(f"/api/tasks/{shop.ids['completed']}")).json()
        assert told["success"]["worker"] in (f"…{mark}", worker.name)  # it may have sent a heartbeat again
        assert told["result"] == "sent to ada@example.com"


async def test_a_result_of_an_older_release_is_shown(app: StreamQ, url: str, shop: Shop) -> None:
    local = shop.ids["completed"].rpartition(":")[2]
    command(url, "HSET", type_keys("shop", 0, "email").results(local), local, '"of old"')
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        told = (await browser.get(f"/api/tasks/{shop.ids['completed']}")).json()
        assert (told["result"], told["success"], told["state"]) == ("of old", None, "completed")
        assert "of old" in (await browser.get(f"/tasks/{shop.ids['completed']}")).text
    assert app.handle(shop.ids["completed"]).result(1) == "of old"


@pytest.mark.parametrize("raw", ["5", '{"a": 1}', "[1, null]", '[{"run_ms": "x", "wait_ms": []}]', "[{}]"])
async def test_any_list_of_failures_can_be_shown(app: StreamQ, url: str, raw: str) -> None:
    app.send("email", {})
    keys = type_keys("shop", 0, "email")
    entry = command(url, "XADD", keys.normal, "*", "p", "{}", "f", raw)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert isinstance(entry, bytes)
        assert (await browser.get(f"/tasks/email:0:n{entry.decode()}")).status_code == 200
        assert (await browser.get("/tasks?state=ready&error=x")).status_code == 200


async def test_sparklines_show_the_hour_that_is_over(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        spark = r'<svg class="spark"[^>]*aria-label="([^"]+)"><polyline points="([^"]*)"'
        deadline = time.monotonic() + 130  # at worst in the minute after the next
        while not (lines := re.findall(spark, (await browser.get("/")).text)):
            assert time.monotonic() < deadline
            # What ended before a daemon's first sample is in no rollup: nobody knows in which minute it was.
            await (await shop.email.aenqueue("ada")).aresult(15)
            await asyncio.sleep(0.1)
        assert len(lines) == 1  # of the types of which something has completed
        for label, points in lines:
            assert label.startswith("completed a minute in the last hour")
            assert len(points.split()) in (59, 60)  # in the first minute that one is all there is
        page = (await browser.get("/dead")).text
        [(label, points)] = re.findall(r'<svg[^>]*aria-label="(died[^"]+)"><polyline points="([^"]*)"', page)
        assert "at most 3" in label
        heights = [float(point.split(",")[1]) for point in points.split()]
        assert len(heights) == 24
        assert heights[-1] == min(heights) < heights[0]


async def test_pages_lead_to_one_another(app: StreamQ, shop: Shop) -> None:
    """Every link on every page answers."""
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        seen, todo = set[str](), ["/"]
        while todo and len(seen) < 80:
            path = todo.pop(0)
            if path in seen:
                continue
            seen.add(path)
            answer = await browser.get(path, follow_redirects=True)
            assert answer.status_code == 200, path
            links = re.findall(r'(?:href|src)="([^"#]+)"', answer.text)
            todo += [link.replace("&amp;", "&") for link in links if link.startswith("/")]
        assert len(seen) >= 30


async def test_the_jump_box_finds_a_task(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        answer = await browser.get("/tasks", params={"q": f" {shop.ids['dead']} "})
        assert answer.status_code == 303
        assert (await browser.get(answer.headers["location"])).status_code == 200
        answer = await browser.get("/tasks", params={"q": shop.ids["ready"][-9:]}, follow_redirects=True)
        assert shop.ids["ready"] in answer.text
        answer = await browser.get("/tasks", params={"q": "http://evil.example/"})
        assert answer.headers["location"].startswith("/tasks?")


async def test_the_api_answers_what_the_pages_show(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:

        async def ask(path: str) -> Any:
            answer = await browser.get(path)
            assert answer.headers["content-type"] == "application/json"
            return answer.json()

        found = await ask("/api/overview")
        charge = next(row for row in found["types"] if row["type"] == "charge")
        assert (charge["dead"], charge["counters"]["retried"], found["totals"]["dead"]) == (3, 3, 3)
        first = await ask("/api/tasks?state=dead&limit=2")
        rest = await ask(f"/api/tasks?state=dead&limit=2&cursor={first['cursor']}")
        assert len({row["id"] for row in (*first["tasks"], *rest["tasks"])}) == 3
        task = await ask(f"/api/tasks/{shop.ids['dead']}")
        assert (task["state"], task["payload"]["note"], len(task["failures"])) == ("dead", HOSTILE, 2)
        [group] = (await ask("/api/dead"))["groups"]
        assert (group["error"], group["count"]) == ("ValueError", 3)
        assert (await ask("/api/workers"))["workers"][0]["alive"] is True
        chart = await ask("/api/chart?type=charge&span=day")
        assert len(chart["times"]) == len(chart["wait_p95"])
        assert 95 <= len(chart["times"]) <= 96
        assert "redis_version" in (await ask("/api/server"))["server"]
        assert await ask("/api/actions") == {"actions": []}
        assert (await browser.get("/api/tasks/email:0:n1-0")).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/tasks/nonsense", 404, "is not a task id"),
        ("/tasks/email:0:n1-0", 404, "Unknown task"),
        ("/tasks?state=lost", 400, "Unknown state"),
        ("/tasks?cursor=%00%ff", 400, "use one returned by a previous page"),
        ("/tasks?older=soon", 400, "duration"),
        ("/types/<script>", 404, "Unknown task type"),
        ("/types/..%2f..%2fetc", 404, "Not found"),
        ("/nowhere", 404, "Not found"),
        ("/static/../site.py", 404, "Not found"),
        ("/static/%2e%2e/site.py", 404, "Not found"),
        ("/confirm/explode", 404, "Unknown action"),
        ("/api/tasks?limit=9999", 400, "1 to 200"),
        ("/api/tasks?limit=-1", 400, "limit"),
        ("/api/tasks/x", 404, "task id"),
        ("/api/chart?type=none", 404, "Unknown task type"),
    ],
)
async def test_bad_addresses_get_a_clear_answer(app: StreamQ, path: str, status: int, text: str) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        answer = await browser.get(path)
        assert answer.status_code == status
        assert text in answer.text
        assert "<script>alert" not in answer.text
        assert "Traceback" not in answer.text
        if "/api/" in path:
            assert set(answer.json()) == {"error", "detail"}


async def test_mounted_in_an_application_it_keeps_to_its_prefix(app: StreamQ, shop: Shop) -> None:
    """Nothing runs the lifespan of a mounted application, so it must need none."""
    site = Starlette(routes=[Mount("/queues", dashboard(app, auth=TRUSTED))])
    async with client(site) as browser:
        answer = await browser.get("/queues/")
        assert answer.status_code == 200
        inner = re.findall(r'(?:href|src|action|hx-get|content)="(/[^"]*)"', answer.text)
        assert inner
        assert all(link.startswith("/queues") for link in inner)
        assert 'aria-current="page"' in answer.text
        for link in inner:
            if "/changes" not in link:
                assert (await browser.get(link.replace("&amp;", "&"))).status_code == 200, link
        assert "Path=/queues" in answer.headers["set-cookie"]
        task = await browser.get(f"/queues/tasks/{shop.ids['dead']}")
        token = re.search(r'name="token" value="([^"]+)"', task.text)
        assert token is not None
        form = {"token": token[1], "id": shop.ids["dead"]}
        done = await browser.post("/queues/do/requeue", data=form)
        assert (done.status_code, done.headers["location"].startswith("/queues/tasks/")) == (303, True)


async def test_an_empty_queue_has_pages_too(app: StreamQ) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for path in ("/", "/tasks", "/dead", "/workers", "/schedule", "/server", "/actions"):
            assert (await browser.get(path)).status_code == 200
        assert (await browser.get("/api/chart")).json()["times"] == []


async def test_a_server_that_is_away_is_said(url: str) -> None:
    app = StreamQ("shop", "redis://127.0.0.1:1/0", patience=0.1)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page, api = await browser.get("/"), await browser.get("/api/overview")
        assert (page.status_code, api.status_code) == (503, 503)
        assert "is unreachable" in page.text


async def test_open_pages_are_told_that_something_changed(app: StreamQ) -> None:
    shop = Shop(app)
    site = dashboard(app, auth=TRUSTED)
    sent: list[bytes] = []
    changed = asyncio.Event()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if sum(part.startswith(b"data:") for part in sent) >= 2:
            changed.set()

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/changes", "raw_path": b"/changes"}
    scope |= {
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": LOCAL,
        "server": ("localhost", 80),
    }
    scope |= {"scheme": "http", "root_path": "", "http_version": "1.1"}
    listening = asyncio.create_task(site(scope, receive, send))
    await until(lambda: any(part.startswith(b"data:") for part in sent), 20)
    await shop.image.aenqueue("dog.png")
    await asyncio.wait_for(changed.wait(), 20)
    gone.set()
    await asyncio.wait_for(listening, 20)


async def test_each_page_is_small_with_all_that_it_loads(app: StreamQ, shop: Shop) -> None:
    """Styles and scripts as they are sent, and the page as a proxy in front compresses it."""
    pages = (
        "/", "/types/charge", "/tasks?state=dead", "/tasks?state=ready&older=0s&error=x", "/dead",
        f"/tasks/{shop.ids['dead']}", "/workers", "/schedule", "/server", "/actions",
        "/confirm/purge?type=charge",
    )  # fmt: skip
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for path in pages:
            page = await browser.get(path)
            loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', page.text)
            assert len(loaded) == 6
            packed = len(gzip.compress(page.content))
            total = packed + sum([await _received(browser, one) for one in loaded])
            print(f"{path:40} {total:6} bytes compressed, {packed:6} of them the page")
            assert total < 60_000, path


async def _received(browser: httpx.AsyncClient, path: str) -> int:
    """The size of an answer as it is sent."""
    async with browser.stream("GET", path) as answer:
        assert answer.status_code == 200
        return sum([len(part) async for part in answer.aiter_raw()])


def test_the_assets_are_ours_to_give_and_ask_nobody_else() -> None:
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert {path.name for path in (STATIC / "LICENSES").iterdir()} == {"htmx.txt", "uPlot.txt"}
    for path in files:
        if path.suffix in (".js", ".css"):
            assert not re.search(r"https?://(?!www\.w3\.org)[^\s\"']*\.(js|css)", path.read_text("utf-8"))
