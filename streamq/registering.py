"""The registration of a task type, and when its rules come into force.

A rule of lanes or unique keys is obeyed only if every process that serves the type obeys it: a worker of an
older release would end a task and keep its slot. So a new rule is held while such a process lives, and a
daemon puts it into force later (see `lua/register.lua`). Owns who may obey what. Does no I/O: these are
flows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.errors import ServerError
from streamq.features import LANES, UNIQUE
from streamq.flow import Flow, ask
from streamq.heartbeat import WorkerInfo, worker_info
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.namespace import namespace_of

RULES: Final = (LANES, UNIQUE)
"""The features that the rules of a type may need."""


def register(t: TypeKeys, s: ShardKeys, handler: str, policy: dict[str, str]) -> Flow[str]:
    """Register a type with its policy. Return the handler that was registered before, or ''. Raises
    InvalidOption if the type cannot become ordered."""
    before = yield from ask(producer_calls.register(t, s, handler, policy, None))
    if before is None:
        found = yield from processes(t.app)
        before = yield from ask(producer_calls.register(t, s, handler, policy, lacking(found, t.type)))
    return before or ""


def processes(app: str) -> Flow[list[WorkerInfo]]:
    """Return the workers of an app and the daemons that serve it, by their last heartbeats."""
    shard, namespace = shard_keys(app, 0), namespace_of(app)
    workers = yield from _read(question_calls.workers(shard), question_calls.heartbeats(shard))
    daemons = yield from _read(question_calls.daemons(namespace), question_calls.daemon_heartbeats(namespace))
    return workers + [one for one in daemons if one.details.get("only") in (None, app)]


def behind(found: Iterable[WorkerInfo], task_type: str, feature: str) -> list[WorkerInfo]:
    """Return the living processes that serve a type and lack a feature. A daemon serves all types."""
    return [
        one
        for one in found
        if one.alive
        and feature not in one.details.get("speaks", ())
        and task_type in one.details.get("types", (task_type,))
    ]


def lacking(found: Iterable[WorkerInfo], task_type: str) -> list[str]:
    """Return the features of rules that a living process of a type lacks."""
    everyone = list(found)
    return [feature for feature in RULES if behind(everyone, task_type, feature)]


def _read(beats: Call[list[tuple[str, int]]], details: Call[dict[str, bytes]]) -> Flow[list[WorkerInfo]]:
    try:
        listed = yield from ask(beats)
        raw = (yield from ask(details)) if listed else {}
    except ServerError:  # a key of the wrong type, or a user without the right: nobody is known to be behind
        return []
    now = (yield from ask(question_calls.now())) if listed else 0
    return [worker_info(name, now - beat, raw[name]) for name, beat in listed if name in raw]
