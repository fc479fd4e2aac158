"""What an operator asks of a type, of a task, and of the lists, on a bad day."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

import streamq
from streamq import StreamQ, get_context
from streamq.control.schedule_info import LATE_MS
from streamq.dashboard import dashboard
from streamq.dashboard.forms import where_wrong
from streamq.dashboard.task_views import attempt, links
from streamq.errors import InvalidOption
from streamq.fingerprint import Frame
from streamq.heartbeat import DETAILS, Detail
from streamq.keys import shard_keys
from streamq.model.task import TaskId
from tests.conftest import command
from tests.dashboard.scene import LONG
from tests.dashboard.shop import HOSTILE, TRUSTED, open_shop
from tests.dashboard.test_pages import client
from tests.running import serving, until


@pytest_asyncio.fixture
async def browser(scene: StreamQ) -> AsyncIterator[httpx.AsyncClient]:
    async with client(dashboard(scene, auth=TRUSTED)) as browser:
        yield browser


async def text(browser: httpx.AsyncClient, path: str, status: int = 200) -> str:
    answer = await browser.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


# -- a type --------------------------------------------------------------------------------------------------


async def test_a_type_tells_its_whole_policy_in_words(browser: httpx.AsyncClient) -> None:
    page = await text(browser, "/types/charge")
    for words in (
        "Up to 2 attempts; the wait between them: wait_fixed.", "An attempt may take 30 s.",
        "When its worker is silent for 10 s, another one gets it;",
        "it is dead after 3 lost deliveries in a row.",
        "Results are kept for 1 d.", "tests.dashboard.scene",
    ):  # fmt: skip
        assert words in page, words
    assert "lease ms" not in page
    page = await text(browser, "/types/thumbnail")
    assert "Tasks with the same customer wait together; at most 1 of them at once." in page
    assert "At most 4 are ready or running at once." in page


async def test_a_type_shows_its_faults_recent_tasks_lanes_and_schedules(browser: httpx.AsyncClient) -> None:
    page = await text(browser, "/types/charge")
    faults = page[page.index("Failures by fault") : page.index("Recent tasks")]
    assert faults.count('class="spark"') == 2
    assert "raise ConnectionError(&#34;the bank did not answer within 5 s&#34;)" in faults
    recent = page[page.index("Recent tasks") : page.index("Policy")]
    assert recent.count("state dead") == 5
    assert recent.count("state completed") == 10
    page = await text(browser, "/types/thumbnail")
    assert "Lanes that wait longest" in page
    page = await text(browser, f"/types/{LONG}")
    assert "nightly-ledgers" in page
    assert "Europe/Madrid" in page
    assert "No living worker serves this type" in page
    assert "and 50 more" in await text(browser, "/types/export")


# -- lists ---------------------------------------------------------------------------------------------------


async def test_tabs_have_counts_and_every_list_is_live(browser: httpx.AsyncClient) -> None:
    page = await text(browser, "/tasks?state=dead")
    counts = dict(re.findall(r"state=(\w+)\"[^>]*>\w+ <small>([\d,]+)</small>", page))
    assert counts == {"scheduled": "34", "parked": "57", "ready": "265", "running": "4", "dead": "35"}
    for state in ("ready", "running", "scheduled", "parked", "dead", "completed", "cancelled", "expired"):
        assert 'id="live" hx-get="/tasks?state=' in await text(browser, f"/tasks?state={state}")
    assert ">18</small>" in await text(browser, "/tasks?state=dead&type=charge")


async def test_completed_tasks_are_newest_first_over_all_types(scene: StreamQ) -> None:
    page = scene.inspector.tasks("completed", limit=200)
    types = [row.type for row in page.rows]
    assert {"charge", "email", "export", "webhook"} <= set(types)
    begun = [TaskId.parse(row.id).local[1:].partition("-")[0] for row in page.rows if ":n" in row.id]
    assert begun == sorted(begun, reverse=True)
    rows, cursor = list[str](), ""
    while True:
        part = scene.inspector.tasks("completed", cursor=cursor, limit=7)
        rows += [row.id for row in part.rows]
        cursor = part.cursor
        if not cursor:
            break
    assert sorted(rows) == sorted(row.id for row in page.rows)
    assert len(set(rows)) == len(rows)
    by_type = [
        row.id
        for name in scene.inspector.types()
        for row in scene.inspector.tasks("completed", name, limit=200).rows
    ]
    assert sorted(by_type) == sorted(rows)


async def test_nothing_selected_is_told_in_place(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/confirm/requeue?back=/tasks?state%3Ddead")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?state=dead&nothing=1")
    page = await text(browser, "/tasks?state=dead&nothing=1")
    assert 'role="alert" id="nothing">Nothing is selected' in page
    assert 'id="nothing" hidden>' in await text(browser, "/tasks?state=dead")


async def test_dead_letters_show_the_users_own_line(browser: httpx.AsyncClient) -> None:
    page = await text(browser, "/dead")
    assert "all attempts failed" in page
    assert page.count('<code class="source">') == 5
    assert (
        "await asyncio.sleep(30)" in page
    )  # a timeout is raised in asyncio, but it is this line that waited
    assert "First died" in page


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/shop/tasks.py", True), ("/usr/lib/python3.11/asyncio/tasks.py", False),
        ("/srv/venv/lib/python3.12/site-packages/streamq/worker/attempts.py", False),
    ],
)  # fmt: skip
def test_whose_line_it_is(file: str, own: bool) -> None:
    assert Frame(file, 1, "f", "x").own is own
    ours = str(streamq.__file__).replace("__init__.py", "")
    assert not Frame(ours + "worker/attempts.py", 1, "f", "x").own
    assert Frame(ours + "demo/tasks.py", 1, "f", "x").own


# -- one task ------------------------------------------------------------------------------------------------


async def test_a_retry_that_the_handler_asked_for_is_no_failure(
    scene: StreamQ, browser: httpx.AsyncClient
) -> None:
    row = scene.inspector.tasks("scheduled", "invoice").rows[0]
    page = await text(browser, f"/tasks/{row.id}")
    assert "attempt 1 asked to run again" in page
    assert 'class="asked"' in page
    assert "attempt 1 failed" not in page
    assert "Traceback" not in page
    assert attempt({"class": "builtins.ValueError", "run_ms": 5})["asked"] is False


async def test_the_head_of_a_task_is_live_in_every_state(app: StreamQ) -> None:
    async with open_shop(app) as (shop, _), client(dashboard(app, auth=TRUSTED)) as browser:
        for name in ("completed", "dead", "running", "scheduled", "ready", "cancelled"):
            page = await text(browser, f"/tasks/{shop.ids[name]}")
            live = page[page.index('id="live" hx-get=') : page.index("Time line")]
            assert "<h1>" in live
            assert 'data-copy="#id"' in live
        page = await text(browser, f"/tasks/{shop.ids['dead']}")
        assert {'data-copy="#payload"', 'data-copy="#trace2"'} <= set(re.findall(r'data-copy="#\w+"', page))


async def test_history_stays_after_a_requeue(app: StreamQ) -> None:
    async with open_shop(app) as (shop, _), client(dashboard(app, auth=TRUSTED)) as browser:
        dead = shop.ids["dead"]
        app.admin.requeue([dead])
        await until(lambda: len(app.inspector.task(dead).failures) == 4)
        assert (await text(browser, f"/tasks/{dead}")).count(" failed</b>") == 4
        once = await shop.charge.aenqueue(5, note="once")
        await once.aresult(15)
        page = await text(browser, f"/tasks/{once.id}")
        assert "1 attempt before it did not complete" in page


async def test_a_wrong_edit_keeps_what_was_typed(app: StreamQ) -> None:
    async with open_shop(app) as (shop, _), client(dashboard(app, auth=TRUSTED)) as browser:
        page = await text(browser, f"/tasks/{shop.ids['dead']}")
        token = re.findall(r'name="token" value="([^"]+)"', page)[0]
        typed = '{"order": 5,\n "note": oops' + HOSTILE
        form = {"token": token, "id": shop.ids["dead"], "payload": typed}
        answer = await browser.post("/do/resubmit", data=form)
        assert answer.status_code == 422
        assert "Not requeued. Line 2, column 10: Expecting value." in answer.text
        assert "&#34;note&#34;: oops&lt;script&gt;" in answer.text
        assert app.inspector.task(shop.ids["dead"]).state == "dead"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{}", ""), ("[1]", "It is a list: write"), ('"a"', "It is a text"), ("7", "It is a single value"),
        ('{"a": }', "Line 1, column 7: Expecting value."), ("[" * 100_000, "It is nested too deep."),
    ],
)  # fmt: skip
def test_where_arguments_are_wrong(payload: str, said: str) -> None:
    assert where_wrong(payload).startswith(said)


def test_a_task_leads_to_its_lane_schedule_and_trace(app: StreamQ) -> None:
    def found(fields: dict[str, bytes], **detail: str) -> list[tuple[str, str, str]]:
        info: Any = type("Info", (), {"type": "email", "fields": fields})
        shown = links(info, detail, "https://traces.example/{trace_id}?tab=1")
        return [(one.label, one.text, one.path or one.address) for one in shown]

    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert found({}) == []
    assert found({"r": b"nightly@1796058643118", "t": trace}, lane="acme") == [
        ("Lane", "acme", "/types/email/lanes"),
        ("Schedule", "nightly", "/schedules"),
        ("Trace", trace.decode()[3:35], f"https://traces.example/{trace.decode()[3:35]}?tab=1"),
    ]
    assert found({"t": b'{"traceparent": "%s"}' % trace})[0][0] == "Trace"
    assert found({"b": b"import:0:n1764547200000-0"}) == [
        ("Parent", "import:0:n1764547200000-0", "/tasks/import:0:n1764547200000-0")
    ]
    assert found({"b": b"<script>"}) == []
    assert found({"t": b"{not json"}) == []
    assert found({"t": b"[]", "r": b"damaged"}) == []


async def test_a_follow_up_leads_to_its_parent_and_a_traced_task_to_its_trace(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def child() -> None: ...

    @app.task
    async def parent() -> str:
        return get_context().enqueue(child.options(delay="1h").bind()).id

    async with serving(app):
        first = await parent.aenqueue()
        follow_up = await first.aresult(20)
    bound = child.bind()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bound.task = bound.task._replace(fields=(*bound.task.fields, ("t", trace)))
    [traced] = await app.aenqueue_many([bound])
    monkeypatch.setenv("STREAMQ_TRACE_URL", "https://traces.example/{trace_id}")
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = await text(browser, f"/tasks/{traced.id}")
        assert f'<a href="https://traces.example/{trace[3:35]}" rel="noreferrer noopener">' in page
        page = await text(browser, f"/tasks/{follow_up}")
        assert f'<dt>Parent</dt><dd><a href="/tasks/{quote(first.id)}">{first.id}</a>' in page


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://traces.example/", "has no place for the id"),
        ("javascript:{trace_id}", "not an address of http"),
        ("traces.example/{trace_id}", "not an address of http"),
        ("https://[{trace_id}", "is not an address:"),
    ],
)  # fmt: skip
def test_a_wrong_address_of_traces_is_refused_in_the_callers_line(
    app: StreamQ, address: str, said: str
) -> None:
    with pytest.raises(InvalidOption, match=said) as raised:
        dashboard(app, auth=TRUSTED, trace_url=address)
    assert "https://grafana.example/explore?trace={trace_id}" in str(raised.value)


# -- workers, schedules and the log --------------------------------------------------------------------------


async def test_dead_workers_are_apart_and_can_be_dismissed(app: StreamQ, url: str) -> None:
    async with open_shop(app) as (_, worker), client(dashboard(app, auth=TRUSTED)) as browser:
        # One that died: its row, as its last heartbeat left it.
        beaten = app.inspector.now_ms() - 60_000
        command(url, "ZADD", shard_keys("shop", 0).workers, beaten, "gone-1-aaaaaa")
        beat = '{"running_count": 1, "running": [{"id": "email:0:n1-0", "since_ms": 1}]}'
        command(url, "HSET", shard_keys("shop", 0).heartbeats, "gone-1-aaaaaa", beat)
        page = await text(browser, "/workers")
        assert "1 alive, 1 silent" in page
        dead = page[page.index("Silent workers") : page.index('<article class="worker">')]
        assert "gone-1-aaaaaa" in dead
        assert "email:0:n1-0" in dead
        assert worker.name not in dead
        token = re.findall(r'name="token" value="([^"]+)"', page)[0]
        form = {"token": token, "worker": "gone-1-aaaaaa"}
        assert (await browser.post("/do/dismiss", data=form)).status_code == 303
        assert "gone-1-aaaaaa" not in await text(browser, "/workers")
        refused = await browser.post("/do/dismiss", data={"token": token, "worker": worker.name})
        assert (refused.status_code, "is alive" in refused.text) == (400, True)
        logged = app.inspector.actions()
        assert [(one.verb, one.what, one.by) for one in logged] == [("dismiss", "gone-1-aaaaaa", "local")]
        assert app.admin.dismiss("nobody") is False


async def test_the_operator_log_gives_reasons(app: StreamQ) -> None:
    app.send("email", {})
    app.admin.acting_for("ada").pause("email", "the relay is down")
    app.admin.acting_for("ada").resume("email")
    for _ in range(60):
        app.admin.acting_for("bob").pause("email")
        app.admin.acting_for("bob").resume("email")
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = await text(browser, "/actions")
        assert "<h1>Operator log</h1>" in page
        assert "Page 1 of 3" in page
        assert "the relay is down" not in page
        assert "the relay is down" in await text(browser, "/actions?page=3")
        assert "No actions yet" in await text(browser, "/actions?page=9")
        assert await text(browser, "/actions?page=0", 400)
    assert app.inspector.actions(1000)[-1].reason == "the relay is down"


def test_unlocking_is_logged_in_words(app: StreamQ) -> None:
    @app.task(unique=True)
    async def email(to: str) -> None: ...

    held = email.options(unique="ada").enqueue("ada")
    app.admin.acting_for("bob").unlock("email", "ada", force=True, reason="it hangs")
    (logged,) = [one for one in app.inspector.actions() if one.verb == "unlock"]
    assert logged.what == f"email: key 'ada', held by {held.id}"
    assert logged.reason == "it hangs"
    again = email.enqueue("bob")
    (lock,) = [one for one in app.inspector.locks("email") if one.holder == again.id]
    app.admin.unlock("email", lock.key, force=True)
    assert app.inspector.actions()[0].what == f"email: a key, held by {again.id}"


async def test_recurring_tasks_and_what_is_due_have_pages(scene: StreamQ, browser: httpx.AsyncClient) -> None:
    due = scene.schedules.get("hooks").next_ms or 0
    await until(lambda: scene.inspector.now_ms() > due + LATE_MS)
    page = await text(browser, "/schedules")
    assert "Page 1 of 2" in page
    assert page.index(">hooks<") < page.index(">export-00<")  # those that are late come first
    assert page.count('<article class="worker schedule">') == 50
    assert (await text(browser, "/schedules?page=2")).count('<article class="worker schedule">') == 13
    assert (await text(browser, "/schedules?name=nightly")).count('<article class="worker schedule">') == 1
    assert (await text(browser, "/schedules?type=sync_stock")).count('<article class="worker schedule">') == 1
    assert "in " in await text(browser, "/schedule")


async def test_a_detail_of_a_heartbeat_with_a_label_is_shown(
    app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one needs its row alone; one that is damaged, or from a script, harms no page."""
    monkeypatch.setitem(DETAILS, "zone", Detail(str, "Zone"))
    app.send("email", {})
    beat = '{"zone": "<b>eu-1</b>", "types": ["a", 5], "host": 7}'
    command(url, "ZADD", shard_keys("shop", 0).workers, app.inspector.now_ms() + 60_000, "w-1")
    command(url, "HSET", shard_keys("shop", 0).heartbeats, "w-1", beat)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = await text(browser, "/workers")
    for label, value in (("Zone", "&lt;b&gt;eu-1&lt;/b&gt;"), ("Types", "a, 5"), ("Host", "\N{EN DASH}")):
        assert f"<dt>{label}</dt><dd>{value}</dd>" in page


async def test_workers_have_pages(app: StreamQ, url: str) -> None:
    app.send("email", {})
    now = app.inspector.now_ms()
    for n in range(120):
        command(url, "ZADD", shard_keys("shop", 0).workers, now + 60_000, f"w-{n:03}")
        command(url, "HSET", shard_keys("shop", 0).heartbeats, f"w-{n:03}", "{}")
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = await text(browser, "/workers?page=3")
        assert page.count('<article class="worker">') == 20
        assert "Page 3 of 3" in page
