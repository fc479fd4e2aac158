"""Server-sent events: what a task tells while it runs, for a browser's `EventSource`.

Owns the form of the stream and how it is resumed. Must not import a web framework: a stream is an iterator of
text, which each of them sends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from streamq.blocking import refuse
from streamq.errors import UsageError
from streamq.options.checks import Duration, seconds

if TYPE_CHECKING:
    from streamq.app.task_events import TaskEvents
    from streamq.client.task_event import TaskEvent

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What a response with a stream needs besides its media type: no cache, no buffer of a proxy."""
ENDED: Final = "end"
"""The id of the last event: a browser that comes back with it has seen everything."""
_BEHIND_ALL: Final = "18446744073709551615-0"
_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_BEGIN: Final = "retry: 3000\n\n"
_SILENCE: Final = ": still running\n\n"


def event_stream(handle: object, *, after: str = "", keep_alive: Duration = "15s") -> Iterator[str]:
    """Return the live events of a task as server-sent events, for Flask and Django under WSGI.

    handle: of a task, as `enqueue` or `app.handle(id)` return it. after: the header Last-Event-ID of the
    request: the stream goes on behind that event; what is no id begins anew. keep_alive: after so much
    silence a comment is sent, which finds a client that is gone. The stream ends with the event `end`. It
    takes a thread as long as it lasts. Raises UsageError if the handle is none.
    """
    refuse("event_stream()", "aevent_stream()")
    found, silence = _checked(handle, after, keep_alive)
    return _stream(found, silence)


def aevent_stream(handle: object, *, after: str = "", keep_alive: Duration = "15s") -> AsyncIterator[str]:
    """Return the same for FastAPI, Starlette, Litestar, and Django under ASGI. A stream takes no connection
    to the server of its own."""
    found, silence = _checked(handle, after, keep_alive)
    return _astream(found, silence)


class Headers(Protocol):
    """The headers of a request, as every web framework has them."""

    def get(self, key: str, /) -> Any:
        """Return the value of a header, None if it is missing."""


def last_event_id(headers: Headers) -> str:
    """Return the header that a browser sends when it comes back, '' for none."""
    return str(headers.get("last-event-id") or headers.get("Last-Event-ID") or "")


def written(event: TaskEvent) -> str:
    """Return an event as it is sent: its id, its kind, and JSON."""
    told: dict[str, object] = {"attempt": event.attempt}
    if event.kind == "progress":
        told |= {"done": event.done, "total": event.total, "text": event.text}
    elif event.kind == "log":
        told |= {"level": event.level, "logger": event.logger, "message": event.text}
    elif event.kind == "end":
        told["state"] = event.value
    else:
        told["value"] = event.value
    data = orjson.dumps(told).decode()  # of one line
    return f"id: {event.id or ENDED}\nevent: {event.kind}\ndata: {data}\n\n"


def _checked(handle: Any, after: str, keep_alive: Duration) -> tuple[TaskEvents, float]:
    if not callable(getattr(handle, "events", None)):
        raise UsageError(
            f"event_stream({handle!r:.120}): it takes the handle of a task, as enqueue() or app.handle(id) "
            "return it"
        )
    begin = _BEHIND_ALL if after == ENDED else after if _ID.fullmatch(after or "") else ""
    return handle.events(begin), seconds(keep_alive, "keep_alive", least=0.01)


def _stream(events: TaskEvents, silence: float) -> Generator[str]:
    yield _BEGIN
    for event in events.ticking(silence):
        yield _SILENCE if event is None else written(event)


async def _astream(events: TaskEvents, silence: float) -> AsyncGenerator[str]:
    yield _BEGIN
    watch = aiter(events)
    coming: asyncio.Future[TaskEvent | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(watch, None))
            done, _ = await asyncio.wait([coming], timeout=silence)
            if not done:
                yield _SILENCE
                continue
            event, coming = coming.result(), None
            if event is None:
                return
            yield written(event)
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        await watch.aclose()
