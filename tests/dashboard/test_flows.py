"""The pages of flows: the list, and one flow with its picture, whatever happened to it and however large."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from streamq import FlowHandle, StreamQ
from streamq.control import flow_pages
from streamq.dashboard import dashboard
from streamq.dashboard.auth import Principal
from streamq.dashboard.flow_graph import HEIGHT, ROOMS, pictures
from streamq.flows import folding
from streamq.flows.reading import NodeInfo
from streamq.keys import shard_keys
from tests.conftest import command
from tests.dashboard.shop import HOSTILE, TRUSTED
from tests.dashboard.test_actions import do, followed
from tests.dashboard.test_operator_pages import text
from tests.dashboard.test_pages import client
from tests.flows.stage import Diamond, over
from tests.running import serving, until


@pytest_asyncio.fixture
async def browser(app: StreamQ) -> AsyncIterator[httpx.AsyncClient]:
    async with client(dashboard(app, auth=TRUSTED)) as found:
        yield found


async def failed(app: StreamQ, diamond: Diamond) -> FlowHandle:
    """A diamond whose left side is broken."""
    diamond.broken = {"left"}
    handle = await diamond.wf.astart(key="one")
    await until(over(handle))
    return handle


async def test_a_failed_flow_is_shown_and_goes_on_from_where_it_failed(
    app: StreamQ, browser: httpx.AsyncClient
) -> None:
    diamond = Diamond(app)
    async with serving(app):
        handle = await failed(app, diamond)
        listed = await text(browser, "/flows")
        for part in ("Failed last", "all failed", handle.id, "state failed", ">left<"):
            assert part in listed, part
        page = await text(browser, f"/flows/{handle.id}")
        task = handle.nodes()[1].task
        for part in (
            "Failed node", "ValueError: left is broken", f'href="/tasks/{quote(task)}"', "top → left → join",
            "Retry from here", '<a class="box dead path"', '<g class="box skipped path"',
            '<a class="box completed path"', "left is broken", "raise ValueError", "<code>one</code>",
        ):  # fmt: skip
            assert part in page, part
        assert "Cancel…" not in page
        shown = await text(browser, f"/tasks/{task}")
        assert f'<a href="/flows/{quote(handle.id)}">left of {handle.id}</a>' in shown
        diamond.broken = set()
        told = await followed(browser, await do(browser, "retry-flow", flow=handle.id))
        assert "The flow goes on." in told
        await until(lambda: handle.status() == "completed")
        page = await text(browser, f"/flows/{handle.id}")
        assert "Failed node" not in page
        asked = await text(browser, f"/confirm/retry-flow?flow={handle.id}&start=join")
        assert f"Retry flow {handle.id} from node join? It runs again" in asked
        ran = diamond.ran.count("join")
        again = await followed(browser, await do(browser, "retry-flow", flow=handle.id, start="join"))
        assert "The flow goes on." in again
        await until(lambda: handle.status() == "completed" and diamond.ran.count("join") == ran + 1)
        unknown = await do(browser, "retry-flow", flow=handle.id, start="nobody")
        assert unknown.status_code == 400
        assert "has not failed" in await followed(browser, await do(browser, "retry-flow", flow=handle.id))
        assert "already ended" in await followed(browser, await do(browser, "cancel-flow", flow=handle.id))
    assert [one.verb for one in app.inspector.actions()] == ["retry flow", "retry flow"]


async def test_undo_is_shown_where_it_runs_and_may_be_left_out(
    app: StreamQ, browser: httpx.AsyncClient
) -> None:
    @app.task(max_attempts=1)
    async def charge() -> int:
        return 1

    @app.task(max_attempts=1)
    async def refund() -> None:
        raise ValueError("the bank is closed")

    @app.task(max_attempts=1)
    async def ship() -> None:
        raise ValueError("no address")

    wf = app.flow("order")
    wf.add(ship.bind(), after=wf.add(charge.bind(), undo=refund.bind()))
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: handle.status() == "stuck")
        page = await text(browser, f"/flows/{handle.id}")
        for part in ("Stuck", "its undo failed in", "the bank is closed", "no address", "undo refund"):
            assert part in page or part == "undo refund", part
        assert handle.id in await text(browser, "/flows?state=stuck")
        assert "Failed last" in await text(browser, "/flows")
    kept = await wf.astart()
    question = await text(browser, f"/confirm/cancel-flow?flow={kept.id}")
    assert 'name="keep" value="yes"' in question
    assert "Cancelled." in await followed(browser, await do(browser, "cancel-flow", flow=kept.id, keep="yes"))


async def test_a_running_flow_is_cancelled_after_a_question(app: StreamQ, browser: httpx.AsyncClient) -> None:
    handle = await Diamond(app).wf.astart()
    page = await text(browser, f"/flows/{handle.id}")
    assert f'href="/confirm/cancel-flow?flow={quote(handle.id)}"' in page
    assert "<progress" in page
    question = await text(browser, f"/confirm/cancel-flow?flow={handle.id}")
    assert f"Cancel flow {handle.id}?" in question
    assert f'href="/flows/{quote(handle.id)}">Back' in question
    assert "Cancelled." in await followed(browser, await do(browser, "cancel-flow", flow=handle.id))
    assert handle.status() == "cancelled"
    assert (await browser.get("/flows?state=cancelled")).text.count(f">{handle.id}<") == 1
    assert "No flow is running." in await text(browser, "/flows?state=running")


async def test_a_viewer_sees_no_actions_and_is_told_which_role_it_takes(app: StreamQ) -> None:
    handle = await Diamond(app).wf.astart()
    async with client(dashboard(app, auth=lambda _: Principal("eve", "viewer"))) as browser:
        assert "Cancel…" not in await text(browser, f"/flows/{handle.id}")
        for action in ("cancel-flow", "retry-flow"):
            refused = await do(browser, action, flow=handle.id)
            assert refused.status_code == 403
            assert f"eve has the role viewer: {action} needs operator." in refused.text


async def test_errors_and_keys_are_hidden_with_the_payloads(app: StreamQ) -> None:
    diamond = Diamond(app)
    async with serving(app), client(dashboard(app, auth=TRUSTED, hide_payloads=True)) as browser:
        handle = await failed(app, diamond)
        for path in (f"/flows/{handle.id}", f"/api/flows/{handle.id}", "/flows"):
            page = await text(browser, path)
            assert "left is broken" not in page, path
            assert ">one<" not in page, path
        assert "ValueError" in await text(browser, f"/flows/{handle.id}")


async def test_the_api_has_what_the_pages_show(app: StreamQ, browser: httpx.AsyncClient) -> None:
    handle = await Diamond(app).wf.astart()
    listed = (await browser.get("/api/flows?state=running&limit=1")).json()
    assert [one["id"] for one in listed["flows"]] == [handle.id]
    told = (await browser.get(f"/api/flows/{handle.id}")).json()
    assert [one["name"] for one in told["nodes"]][:2] == ["top", "left"]
    assert told["failure"] is None
    for path in ("/api/flows?state=odd", "/api/flows?limit=0", "/api/flows?cursor=x", "/flows?state=odd"):
        assert (await browser.get(path)).status_code == 400, path
    for path in ("/flows/nonsense", "/flows/x:0:1764547200000-402938475610", "/api/flows/x:0:1-1"):
        assert (await browser.get(path)).status_code == 404, path
    done = await browser.post("/api/do/cancel-flow", json={"flow": handle.id})
    assert done.json() == {"message": "Cancelled."}


async def test_a_list_is_read_in_pages_and_names_those_that_are_stuck(
    app: StreamQ, url: str, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    wf = Diamond(app).wf
    ids = [wf.start(key=str(n)).id for n in range(5)]
    page = app.flows.page(limit=2)
    second = app.flows.page(cursor=page.cursor, limit=2)
    last = app.flows.page(cursor=second.cursor, limit=2)
    found = [one.id for part in (page, second, last) for one in part.flows]
    assert (found, last.cursor, page.total, page.left_out) == (sorted(ids, reverse=True), "", 5, 0)
    assert app.flows.page("failed").flows == []
    monkeypatch.setattr(flow_pages, "LISTED", 2)  # of more flows than are listed, both ends of the index are
    assert (app.flows.page().left_out, len(app.flows.page().flows)) == (1, 4)
    monkeypatch.undo()
    s = shard_keys(app.name, 0)
    command(url, "ZADD", s.flows, 5, ids[2].rpartition(":")[2])
    command(url, "SET", s.flow(ids[1].rpartition(":")[2]), "damaged")
    shown = await text(browser, "/flows")
    assert "Stuck" in shown
    assert shown.index(ids[2]) < shown.index("<h2>All</h2>")
    assert "Its flows are missing here" in shown
    assert (await browser.get(f"/flows/{ids[1]}")).status_code == 409


async def test_a_map_is_one_box_with_its_children_in_pages(app: StreamQ, browser: httpx.AsyncClient) -> None:
    @app.task
    async def parse(n: int) -> int:
        return n

    @app.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    wf = app.flow("import")
    parsed = wf.map(parse, range(10_000))
    wf.add(total.bind(parsed.output))
    handle = await wf.astart()
    began = time.process_time()  # what else the machine does is not the page's
    page = await text(browser, f"/flows/{handle.id}")
    took = time.process_time() - began
    assert took < 1.0, took
    assert page.count('class="box') == 2 * 2  # for a wide screen and for a phone
    assert "parse \N{MULTIPLICATION SIGN} 10,000" in page
    assert len(page) < 40_000
    children = await text(browser, f"/flows/{handle.id}?map=parse")
    assert children.count("parse[") == 50
    assert "parse[49]" in children
    following = re.search(r'href="([^"]*from=50[^"]*)"', children)
    assert following is not None
    assert "parse[50]" in await text(browser, following[1].replace("&amp;", "&"))
    state = next(iter(handle.nodes()[0].children))
    released = await text(browser, f"/flows/{handle.id}?map=parse&show={state}")
    assert "Children of parse" in released
    for path in ("?map=total", "?map=parse&show=odd", "?first=x", "?page=0"):
        assert (await browser.get(f"/flows/{handle.id}{path}")).status_code == 400, path


async def test_what_is_stored_is_never_markup(app: StreamQ, url: str, browser: httpx.AsyncClient) -> None:
    handle = await Diamond(app).wf.astart()
    record = shard_keys(app.name, 0).flow(handle.id.rpartition(":")[2])
    told = json.dumps({"m": HOSTILE, "t": HOSTILE, "l": "n", "k": "map", "a": []})
    command(url, "HSET", record, "n0", told, "n2", "damaged", "key", f"k:{HOSTILE}", "cause", HOSTILE)
    page = ""
    for path in ("/flows", f"/flows/{handle.id}", f"/flows/{handle.id}?map={quote(HOSTILE)}"):
        answer = await browser.get(path)
        assert answer.status_code == 200, answer.text
        page = answer.text
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
    assert "&lt;script" in page


# -- folding -------------------------------------------------------------------------------------------------


def node(number: int, waits: list[str], type_: str = "work", state: Any = "waiting") -> NodeInfo:
    return NodeInfo(f"n{number}", number, "task", type_, state, waits, f"{type_}:0:n{number}-1", {})


def test_few_nodes_are_drawn_one_by_one() -> None:
    nodes = [
        node(0, [], "a"),
        *(node(n, ["n0"]) for n in range(1, 9)),
        node(9, [f"n{n}" for n in range(1, 9)]),
    ]
    boxes = folding.folded(nodes)
    assert [(box.name, box.depth) for box in boxes][::9] == [("n0", 0), ("n9", 2)]
    assert len(boxes) == 10
    for picture, room in zip(pictures(boxes, ["n0", "n1", "n9"]), ROOMS, strict=True):
        assert picture.width <= {"wide": 1240, "phone": 344}[room.name]
        places = [(tile.x, tile.y) for tile in picture.tiles]
        assert len(set(places)) == 10
        assert all(abs(a[1] - b[1]) >= HEIGHT or a[1] == b[1] for a in places for b in places)
        assert len(picture.edges) == 16
        assert sum(edge.on_path for edge in picture.edges) == 2


def test_many_nodes_share_boxes_but_the_one_that_failed_stands_alone() -> None:
    work = [node(n, ["n0"], state="dead" if n == 700 else "completed") for n in range(1, 999)]
    nodes = [node(0, [], "a", "completed"), *work, node(999, [one.name for one in work], "join", "skipped")]
    boxes = folding.folded(nodes, alone=["n700"])
    assert [box.name for box in boxes] == ["n0", "work \N{MULTIPLICATION SIGN} 997", "n700", "n999"]
    assert folding.in_words(boxes[1]) == "completed"
    assert [one.name for one in boxes[3].waits] == ["work \N{MULTIPLICATION SIGN} 997", "n700"]
    assert folding.drawn(boxes) == 1000


def test_a_long_row_is_one_box_and_what_is_too_much_is_drawn_in_parts() -> None:
    row = [node(n, [f"n{n - 1}"]) for n in range(500, 1500)]
    boxes = folding.folded([*row, node(1500, ["n1499"], "end")])
    assert [box.name for box in boxes] == ["work \N{MULTIPLICATION SIGN} 1,000 in a row", "n1500"]
    assert (boxes[0].earlier, boxes[1].earlier, boxes[1].depth) == (True, False, 1)
    mixed = [node(n, [f"n{n - 1}"], f"t{n % 2}") for n in range(1000)]
    boxes = folding.folded(mixed)
    assert len(boxes) == folding.drawn(boxes) == folding.MOST
    assert [box.depth for box in boxes] == list(range(folding.MOST))


@pytest.mark.long
async def test_a_page_costs_the_same_at_a_hundred_thousand_nodes(
    app: StreamQ, browser: httpx.AsyncClient
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    wf = app.flow("wide")
    many = [wf.add(work.bind(n), name=f"w{n}") for n in range(20_000)]
    wf.map(work, range(79_000), name="more", after=many[:3])
    handle = await wf.astart()
    for path in ("", "?first=19500", "?map=more&first=20000", "?map=more&first=20000&from=78990"):
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert (await browser.get(f"/flows/{handle.id}{path}")).status_code == 200
            took.append(time.perf_counter() - began)
        print(f"{path:40} {min(took) * 1000:.0f} ms")
        assert min(took) < 0.25, path
