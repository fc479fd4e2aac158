"""Build the call that finds where a task is, for a handle, and parse its reply.

Owns the parsing of that reply. Building a Call does no I/O.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from streamq import stored_result
from streamq.calls.call import (
    Call,
    Reply,
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


def _located(local: str, reply: list[Reply]) -> Located:
    now, state, about, fields, stored = reply
    result, success = (None, None) if stored is None else stored_result.unpack_result(local, stored)
    where = _where(_BY_NAME[state], about) if about else None
    return Located(_BY_NAME[state], now, where, tuple(fields), result, success)


_BY_NAME: Final[dict[bytes, State]] = {state.encode(): state for state in STATES}


def _where(state: State, about: list[Reply]) -> Where | None:
    details = {text(name): value.decode("utf-8", "replace") for name, value in pairs(about)}
    stream, entry = details.get("stream", ""), details.get("entry", "")
    match state:
        case "scheduled":
            return Scheduled(stream, count(details.get("due_ms")))
        case "parked":
            return Parked(stream, details.get("lane", ""), details.get("why", ""))
        case "ready":
            return Ready(stream, entry)
        case "running":
            idle, asked = count(details.get("lease_idle_ms")), details.get("cancel_requested") == "yes"
            return Running(stream, entry, details.get("worker", ""), idle, asked)
        case "dead":
            return Buried(details.get("reason", "unknown"), stream, moment(details.get("died_ms")))
        case _:
            return Ended(moment(details["ended_ms"])) if "ended_ms" in details else None
