"""Live events as server-sent events, over real HTTP: resumed, kept alive, and ended."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from werkzeug.serving import make_server

from streamq import StreamQ, TaskEvent, get_context
from streamq.asgi import event_stream
from streamq.errors import UsageError
from streamq.sse import HEADERS, MEDIA_TYPE, aevent_stream, last_event_id, written
from streamq.sse import event_stream as event_stream_of_threads
from tests.dashboard.browser import served
from tests.running import serving, until

Told = tuple[str, str, dict[str, Any]]
"""The id, the kind and the data of an event."""


class Reader:
    """Reads a stream as a browser does."""

    def __init__(self, answer: httpx.Response) -> None:
        self.comments = 0
        self._lines = answer.aiter_lines()

    async def event(self) -> Told | None:
        """The next event; None at the end of the stream."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
            else:
                fields.clear()
        return None

    async def rest(self) -> list[Told]:
        found: list[Told] = []
        while (event := await self.event()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def connected(address: str, last: str = "") -> AsyncGenerator[Reader]:
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", address, headers={"Last-Event-ID": last} if last else {}) as answer,
    ):
        assert answer.headers["content-type"].startswith(MEDIA_TYPE)
        assert answer.headers["cache-control"] == "no-store"
        yield Reader(answer)


def site(app: StreamQ, keep_alive: str = "15s") -> Starlette:
    async def events(request: Request) -> StreamingResponse:
        handle = app.handle(request.path_params["id"])
        stream = event_stream(handle, after=last_event_id(request.headers), keep_alive=keep_alive)
        return StreamingResponse(stream, media_type=MEDIA_TYPE, headers=HEADERS)

    return Starlette(routes=[Route("/tasks/{id}/events", events)])


async def test_a_browser_follows_a_task_and_goes_on_where_it_was(app: StreamQ) -> None:
    go = asyncio.Event()

    @app.task
    async def order() -> str:
        get_context().progress(1, 2, "half")
        get_context().emit({"line": "a\nb"})
        await go.wait()
        get_context().emit("last")
        return "done"

    async with serving(app), served(site(app)) as address:
        handle = await order.aenqueue()
        url = f"{address}/tasks/{handle.id}/events"
        async with connected(url) as reader:
            first, second = await reader.event(), await reader.event()
        assert first is not None
        assert second is not None
        assert first[1:] == ("progress", {"attempt": 1, "done": 1.0, "total": 2.0, "text": "half"})
        assert second[1:] == ("value", {"attempt": 1, "value": {"line": "a\nb"}})
        async with connected(url, last=second[0]) as reader:
            go.set()
            third, end = await reader.rest()
        assert third[1:] == ("value", {"attempt": 1, "value": "last"})
        assert end == ("end", "end", {"attempt": 1, "state": "completed"})
        async with connected(url, last="end") as reader:
            assert await reader.rest() == [end]
        async with connected(url, last="no id, and no number") as reader:
            assert [one[1] for one in await reader.rest()] == ["progress", "value", "value", "end"]


async def test_a_silent_stream_says_that_it_lives_and_ends_with_its_reader(app: StreamQ) -> None:
    @app.task
    async def order() -> None: ...

    handle = await order.options(delay="1h").aenqueue()
    async with served(site(app, keep_alive="30ms")) as address:
        async with connected(f"{address}/tasks/{handle.id}/events") as reader:
            reading = asyncio.create_task(reader.event())
            await until(lambda: reader.comments > 2)
            reading.cancel()
        waiting: Any = vars(app)["_asyncs"].current().waiting
        await until(lambda: not waiting.listener._waiters)
        async with connected(f"{address}/tasks/{handle.id}/events") as reader:
            await handle.acancel()
            assert await reader.rest() == [("end", "end", {"attempt": 0, "state": "cancelled"})]


@contextmanager
def threads(wsgi: Any) -> Generator[str]:
    """A WSGI application behind a real server, with a thread for each request."""
    server = make_server("127.0.0.1", 0, wsgi, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_flask_streams_from_a_thread(app: StreamQ) -> None:
    web = flask.Flask("shop")

    @app.task
    def order() -> None:
        get_context().emit(1)

    @web.get("/tasks/<id>/events")
    def events(id: str) -> flask.Response:  # noqa: A002 - the name in the address
        after = last_event_id(flask.request.headers)
        stream = event_stream_of_threads(app.handle(id), after=after, keep_alive=0.05)
        return flask.Response(stream, mimetype=MEDIA_TYPE, headers=dict(HEADERS))

    async with serving(app):
        handle = await order.options(delay="1h").aenqueue()
        with threads(web) as address:
            async with connected(f"{address}/tasks/{handle.id}/events") as reader:
                rest = asyncio.create_task(reader.rest())
                await until(lambda: reader.comments > 0)
                await app.aadmin.run_now(handle.id)
                found = await rest
            assert [one[1] for one in found] == ["value", "end"]
            async with connected(f"{address}/tasks/{handle.id}/events", last=found[0][0]) as reader:
                assert [one[1] for one in await reader.rest()] == ["end"]


def test_what_is_no_handle_is_refused_in_the_callers_line() -> None:
    with pytest.raises(UsageError, match="it takes the handle of a task"):
        aevent_stream("email:0:n1-0")
    with pytest.raises(UsageError, match="it takes the handle of a task"):
        event_stream_of_threads(None)


def test_a_log_record_is_one_event() -> None:
    event = TaskEvent("1-0", "log", 2, text="two\nlines", level="info", logger="shop")
    assert written(event) == (
        'id: 1-0\nevent: log\ndata: {"attempt":2,"level":"info","logger":"shop","message":"two\\nlines"}\n\n'
    )
