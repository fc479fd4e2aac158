"""The app under test with everything: the plain types, and those of `promises`, declared as the table says.

A release that knows no lanes, keys or schedules has the plain types alone.
"""

from __future__ import annotations

import os
from typing import Any, Final

from streamq import get_context
from tests.chaos import tasks
from tests.chaos.promises import PROMISES, RECURRING, Promise
from tests.chaos.tasks import Step, app, behave, behave_in_thread, policy

PLAIN: Final = "STREAMQ_CHAOS_PLAIN"
"""The environment variable that leaves out all but the plain types."""

try:
    from streamq import Every, Lane, Schedule, Unique
except ImportError:
    KNOWN = False
else:
    KNOWN = not os.environ.get(PLAIN)

IN_THREADS: Final = ("shared", "halting", "lone")
_RUNS: Final = {3: "slow", 5: "fail1", 8: "slow", 9: "retry"}
"""How runs of a schedule behave, by the last digit of the second they are for."""


def _declared(promise: Promise) -> dict[str, Any]:
    if promise.lock:
        return {"unique": Unique(by=("lock",), until=promise.lock)}
    if promise.every:
        misfire: Any = "all" if promise.overlap == "allow" else "last"
        return {"schedule": Schedule(Every(promise.every), misfire, promise.overlap, grace=1)}
    rate, per_lane = promise.rate, promise.lane_rate
    lane = Lane(
        "lane", running=promise.lane_running, fair=promise.fair, order=promise.order,
        on_dead="halt" if promise.halt else "skip", rate=f"{per_lane.count}/s" if per_lane else None,
        burst=per_lane.burst if per_lane else None,
    )  # fmt: skip
    of_type = {"running": promise.running, "start_rate": f"{rate.count}/s" if rate else None}
    return {"lane": lane} | {name: value for name, value in of_type.items() if value is not None}


def _in_lane(name: str) -> Any:
    async def on_loop(key: str, conduct: str, lane: str) -> str:
        return await behave(Step(key, conduct, lane=lane, fence=get_context().fence))

    def in_thread(key: str, conduct: str, lane: str) -> str:
        return behave_in_thread(Step(key, conduct, lane=lane, fence=get_context().fence))

    return in_thread if name in IN_THREADS else on_loop


def _with_lock(_: str) -> Any:
    async def on_loop(key: str, conduct: str, lock: str) -> str:
        return await behave(Step(key, conduct, lock=lock))

    return on_loop


def _run() -> Step:
    due = get_context().scheduled_for
    run = 0 if due is None else round(due.timestamp() * 1000)
    return Step("", _RUNS.get(run // 1000 % 10, "ok"), run=run)


def _of_schedule(name: str) -> Any:
    async def on_loop() -> str:
        return await behave(_run())

    def in_thread() -> str:
        return behave_in_thread(_run())

    return in_thread if name in IN_THREADS else on_loop


def _handler(name: str, promise: Promise) -> Any:
    make = _with_lock if promise.lock else _of_schedule if promise.every else _in_lane
    handler = make(name)
    handler.__name__ = handler.__qualname__ = name
    return app.task(name=name, **policy(), **_declared(promise))(handler)


TYPES: Final[dict[str, Any]] = {
    **tasks.TYPES,
    **({name: _handler(name, promise) for name, promise in PROMISES.items()} if KNOWN else {}),
}
"""The handlers by the names of their types."""
ENQUEUED: Final = [name for name in TYPES if name not in RECURRING]
"""The types of which producers send tasks."""
