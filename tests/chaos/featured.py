"""The app under test with everything: the plain types, and those of `promises`, declared as the table says.

A release that knows no lanes, keys or schedules has the plain types alone.
"""

from __future__ import annotations

import os
from typing import Any, Final

from streamq import Context, get_context
from tests.chaos import tasks
from tests.chaos.promises import PROMISES, Promise
from tests.chaos.tasks import Step, app, behave, behave_in_thread, policy

PLAIN: Final = "STREAMQ_CHAOS_PLAIN"
"""The environment variable that leaves out all but the plain types."""

try:
    from streamq import Every, Lane, Schedule, Unique
except ImportError:
    KNOWN = False
else:
    KNOWN = not os.environ.get(PLAIN)

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


TYPES: Final[dict[str, Any]] = dict(tasks.TYPES)
"""The handlers by the names of their types."""


def _task(handler: Any) -> Any:
    """Declare a handler as the table says. Each is one of this module, so that a suspect can run apart."""
    name = handler.__name__
    if KNOWN:
        TYPES[name] = app.task(name=name, **policy(), **_declared(PROMISES[name]))(handler)
    return TYPES.get(name, handler)


def _in_lane(key: str, conduct: str, lane: str) -> Step:
    return Step(key, conduct, lane=lane, fence=get_context().fence)


def _run(conduct: str = "") -> Step:
    due = get_context().scheduled_for
    run = 0 if due is None else round(due.timestamp() * 1000)
    return Step("", conduct or _RUNS.get(run // 1000 % 10, "ok"), run=run)


@_task
async def metered(key: str, conduct: str, lane: str) -> str:
    return await behave(_in_lane(key, conduct, lane))


@_task
async def paced(key: str, conduct: str, lane: str) -> str:
    return await behave(_in_lane(key, conduct, lane))


@_task
def shared(key: str, conduct: str, lane: str) -> str:
    return behave_in_thread(_in_lane(key, conduct, lane))


@_task
async def chain(key: str, conduct: str, lane: str) -> str:
    return await behave(_in_lane(key, conduct, lane))


@_task
def halting(key: str, conduct: str, lane: str) -> str:
    return behave_in_thread(_in_lane(key, conduct, lane))


@_task
async def single(key: str, conduct: str, lock: str) -> str:
    return await behave(Step(key, conduct, lock=lock))


@_task
async def latest(key: str, conduct: str, lock: str) -> str:
    return await behave(Step(key, conduct, lock=lock))


@_task
async def beat() -> str:
    return await behave(_run())


@_task
def lone() -> str:
    return behave_in_thread(_run())


@_task
async def queued() -> str:
    return await behave(_run())


@_task
async def newest() -> str:
    return await behave(_run("linger"))


if KNOWN:
    from tests.chaos import bulky, flowing

    TYPES.update(flowing.TYPES | bulky.TYPES)
    if hasattr(Context, "run_flow"):
        from tests.chaos import nesting

        TYPES.update(nesting.TYPES)
