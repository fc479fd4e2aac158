"""A queue in which there is something in every state, and how answers about two such queues are compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Final

import orjson

from streamq import Every, FlowHandle, StreamQ, TaskHandle, TaskId, TaskType, envelope, stored_result
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call, R
from streamq.calls.worker import Source
from streamq.keys import shard_keys, type_keys
from streamq.model.outcome import Completed, Died, Settlement
from streamq.shards import shard_of
from streamq.transport.sync_transport import SyncTransport

SHARDS: Final = 2
KEY: Final = "customer-7"
SHARD: Final = shard_of(KEY, SHARDS)
WORKER: Final = "host-1-abcdef"


class Prepared:
    """An app with tasks in every state, all in one shard. `handles`: by state."""

    def __init__(self, name: str, url: str) -> None:
        self.app = StreamQ(name, url, shards=SHARDS)
        self.email: TaskType[Any, Any, Any] = self.app.task(name="email", retention=60)(_email)
        self.keyed = self.email.options(shard_key=KEY)
        self.transport: SyncTransport = self.app.inspector.transport
        self.name = self.app.inspector.app
        self.t, self.s = type_keys(self.name, SHARD, "email"), shard_keys(self.name, SHARD)
        self.events = shard_keys(self.name, 0).events
        self.handles: dict[str, TaskHandle[Any]] = {}
        self.flow: FlowHandle = self.app.flow_handle("import:0:1764547200000-402938475610")
        self._sent = 0
        self._fill()

    def start_flow(self) -> None:
        """Start a flow of two nodes, for those operations that need one."""
        wf = self.app.flow("import")
        first = wf.add(self.email.bind(1), name="first")
        wf.add(self.email.bind(2), name="then", after=first)
        self.flow = wf.start(key=KEY)

    def id(self, state: str) -> str:
        return self.handles[state].id

    def _fill(self) -> None:
        self._run(worker_calls.groups(self.t.streams))
        sent = [self.keyed.enqueue(n) for n in range(5)]
        done, *failing, _ = self._fetched()
        failed = orjson.dumps([{"attempt": 1, "error": "ValueError", "message": "no such address"}])
        died = Died("attempts", failed, fingerprint="aaa")
        self._settle(
            done, Completed(stored_result.pack_result(b"7", done, bytes.fromhex(WORKER[-6:]), 0, 0), 60_000)
        )
        for delivery in failing:
            self._settle(delivery, died)
        self.handles = dict(zip(("completed", "dead", "again", "purged", "running"), sent, strict=True))
        self.handles["ready"], self.handles["second"] = self.keyed.enqueue(5), self.keyed.enqueue(6)
        self.handles["scheduled"] = self.keyed.options(delay="1h").enqueue(8)
        self.handles["unknown"] = self.app.handle(str(TaskId("email", SHARD, "n1-0")))
        self.app.schedules.put("nightly", Every("1h"), self.email.bind(1))
        told = {"types": ["email"], "concurrency": 4, "heartbeat": 3600.0, "host": "host"}
        self._run(worker_calls.beat(shard_keys(self.name, 0), WORKER, orjson.dumps(told)))

    def _fetched(self) -> list[Any]:
        _, found = self._run(worker_calls.fetch(WORKER, 5, [Source(self.t, "n", 5)]))
        return [envelope.decode("email", SHARD, entry) for _, entries in found for entry in entries]

    def _settle(self, delivery: Any, outcome: Any) -> None:
        self._sent += 1
        items = [Settlement(delivery.place, delivery.local, outcome)]
        assert self._run(worker_calls.settle(self.t, self.s, "settler", self._sent, items)) == [True]

    def _run(self, call: Call[R]) -> R:
        return self.transport.run(call)


def _email(n: int) -> int:
    return n


_WORDS: Final[tuple[tuple[str, str], ...]] = (
    (r"127\.0\.0\.1:\d+", "SERVER"),
    (r"\b[dn]\d{10,15}-\d+\b", "LOCAL"),
    (r"\b[0-9a-f]{16}\b", "ACTION"),
    (r"\b\d{10,16}\b", "MOMENT"),
    (r"\b\d+\.\d+\b", "NUMBER"),
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME"),
)


_OF_THE_MOMENT: Final = ("entry", "lease_idle_ms")


def shape(found: Any, name: str) -> Any:  # noqa: C901, PLR0911 - one line a kind
    """What two queues of the same history have in common: without moments, ids and the app's name."""
    again: Callable[[Any], Any] = lambda one: shape(one, name)  # noqa: E731 - it is what it is
    match found:
        case bool() | None:
            return found
        case BaseException():
            return type(found).__name__, again(str(found))
        case TaskHandle():
            return "handle", again(found.id), found.duplicate
        case str():
            text = found.replace(name, "APP")
            for pattern, word in _WORDS:
                text = re.sub(pattern, word, text)
            return text
        case bytes():
            return again(found.decode("utf-8", "replace"))
        case int():
            return "MOMENT" if found > 10**9 else found
        case float():
            return "NUMBER"
        case dict():
            found = {key: value for key, value in found.items() if key not in _OF_THE_MOMENT}
            return {again(key): again(value) for key, value in found.items()}
        case list() | tuple() | range():
            return [again(one) for one in found]
        case _ if is_dataclass(found):
            names = [field.name for field in fields(found) if field.name not in _OF_THE_MOMENT]
            return {one: again(getattr(found, one)) for one in names}
        case _:
            raise AssertionError(f"of no known shape: {found!r}")
