"""Where a task is: the question that a handle asks, and what its answer says.

Owns the reading of that answer. Building a Call does no I/O.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from streamq import envelope
from streamq.calls.call import (
    Call,
    build,
    moment,
    pairs,
    text,
)
from streamq.keys import GROUP, TypeKeys
from streamq.model.reply import Located
from streamq.model.task import STATES, State
from streamq.model.where import Buried, Ended, Parked, Ready, Running, Scheduled, Where
from streamq.stored import count


def locate(t: TypeKeys, local: str) -> Call[Located]:
    return build("locate", (GROUP, local), partial(_located, local), t, results=t.results(local))


def _located(local: str, reply: list[Any]) -> Located:
    now, state, about, fields, stored = reply
    result, success = (None, None) if stored is None else envelope.opened(local, stored)
    where = _where(_BY_NAME[state], about) if about else None
    return Located(_BY_NAME[state], now, where, tuple(fields), result, success)


_BY_NAME: Final[dict[bytes, State]] = {state.encode(): state for state in STATES}


def _where(state: State, about: list[Any]) -> Where | None:
    told = {text(name): value.decode("utf-8", "replace") for name, value in pairs(about)}
    stream, entry = told.get("stream", ""), told.get("entry", "")
    match state:
        case "scheduled":
            return Scheduled(stream, count(told.get("due_ms")))
        case "parked":
            return Parked(stream, told.get("lane", ""), told.get("why", ""))
        case "ready":
            return Ready(stream, entry)
        case "running":
            idle, asked = count(told.get("lease_idle_ms")), told.get("cancel_requested") == "yes"
            return Running(stream, entry, told.get("worker", ""), idle, asked)
        case "dead":
            return Buried(told.get("reason", "unknown"), stream, moment(told.get("died_ms")))
        case _:
            return Ended(moment(told["ended_ms"])) if "ended_ms" in told else None
