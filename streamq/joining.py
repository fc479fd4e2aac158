"""What a task takes part in besides its stream: the lock of a unique key, a lane, or both.

Owns how the rules of a type and the arguments of a task become its `joins` (see `lua/enqueue_rich.lua`) and
its home: the key whose shard it goes to. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from streamq import locks
from streamq.errors import DecodeError
from streamq.features import LANES, needing
from streamq.model.task import NewTask
from streamq.options.lane import NO_LANE, Gate, of_argument
from streamq.options.task import TaskOptions
from streamq.options.unique_plan import Plan

_UNASKED: Final = "unique"
"""The name of the lock in `joins`: true where the caller does not know whether the type has a rule."""


class Rules(NamedTuple):
    """What the tasks of a type take part in. lock: its rule of unique keys. lane: the argument that names a
    task's lane, '' where none does; None where the type has no lanes and limits. whole: what holds of the
    whole type (a limit, a rate, a fair share) needs all its tasks in one shard."""

    lock: Plan | None = None
    lane: str | None = None
    whole: bool = False

    @property
    def _together(self) -> bool:
        """Whether tasks with the same key are always in the same lane."""
        return self.lock is None or _tells(self.lock, self.lane)

    def home(self, task_type: str, lane: str, lock: str | None) -> str | None:
        """Return the key whose shard a task of this lane goes to; None if any shard will do."""
        if self.whole or not self._together:
            return task_type
        return lane or lock


def _tells(lock: Plan, argument: str | None) -> bool:
    """Whether a key is made of the argument that names the lane."""
    return lock.key is None and bool(argument) and (not lock.by or argument in lock.by)


def of_options(options: TaskOptions, lock: Plan | None) -> Rules:
    """Return the rules of a type whose code is here."""
    if not options.gated:
        return Rules(lock)
    lane = options.lane
    whole = options.running is not None or options.start_rate is not None or (lane is not None and lane.fair)
    return Rules(lock, lane.argument if lane is not None else "", whole)


def of_policy(policy: Mapping[str, str]) -> Rules:
    """Return the rules of a type as its policy in Redis has them. Raises DecodeError if this release cannot
    read them."""
    lock, stored = None, policy.get("unique")
    if stored is not None and (lock := Plan.parse(stored.encode())) is None:
        raise DecodeError("its rule of unique keys is one that this release cannot read", reason="policy")
    if "gate" not in policy:
        return Rules(lock)
    gate = Gate.parse(policy["gate"])
    return Rules(lock, policy.get("lane", ""), gate.limited or gate.fair)


class Joined(NamedTuple):
    """A task with what it takes part in. lock: the name of its lock. home: the key whose shard it goes to,
    None if any will do. split: with several shards, lock and lane may have different homes."""

    task: NewTask
    lock: str | None
    home: str | None
    split: bool = False


def join(
    task_type: str,
    task: NewTask,
    rules: Rules,
    payload: bytes,
    *,
    lock: Plan | None,
    lane: str | None = None,
    cost: int | None = None,
    secret: bytes = b"",
) -> Joined:
    """Return a task with its lock and its lane. payload: the arguments as plain JSON. lock: what the call
    itself asks for. lane: the one that the call names instead of its arguments. secret: of `locks.digest`."""
    name = None
    if lock is not None:
        task, name = locks.joined(task_type, task, lock, payload, secret)
    if rules.lane is None and lane is None:
        return Joined(task, name, name)
    told = _lane(rules.lane, payload, task_type) if lane is None else lane
    home = rules.home(task_type, told, name)
    one = home == task_type or (lock is None or (lane is None and _tells(lock, rules.lane)))
    return Joined(in_lane(task, told, cost), name, home, not one)


def _lane(argument: str | None, payload: bytes, task_type: str) -> str:
    return of_argument(orjson.loads(payload), argument, task_type) if argument else NO_LANE


def parts(joins: str) -> dict[str, Any]:
    """Return what a task takes part in, by name."""
    found: Any = orjson.loads(joins) if joins else {}
    return found if isinstance(found, dict) else {}


def has_lane(task: NewTask) -> bool:
    """Return whether a task says which lane it is in."""
    return "lane" in parts(task.joins)


def in_lane(task: NewTask, lane: str, cost: int | None = None) -> NewTask:
    """Return a task that is in this lane too."""
    told = {**parts(task.joins), "lane": lane}
    if cost is not None and cost != 1:
        told["cost"] = cost
    return task._replace(joins=orjson.dumps(told).decode(), fields=needing(task.fields, LANES))


def unasked(task: NewTask) -> NewTask:
    """Return the task of a caller who does not know whether its type has a rule of unique keys."""
    told = {_UNASKED: True, **parts(task.joins)}
    return task._replace(joins=orjson.dumps(told).decode())


def of_run(joined: Joined) -> str:
    """Return what a run of a schedule takes part in, as `lua/tick_rich.lua` reads it; '' for nothing."""
    told, task = parts(joined.task.joins), joined.task
    if not task.joins:
        return ""
    told.setdefault(_UNASKED, False)
    if task.due is not None:
        told["delay_ms"] = task.due
    if task.key is not None:
        told["throttle"] = {"key": task.key.digest.hex(), "ms": task.key.window_ms}
    return orjson.dumps(told).decode()


def rejoin(task_type: str, task: NewTask, rules: Rules, payload: bytes, secret: bytes = b"") -> Joined:
    """Return such a task with the lock and the lane that the type's rules ask for. payload: its arguments as
    plain JSON, `{}` if they are not needed."""
    told = {name: value for name, value in parts(task.joins).items() if name != _UNASKED}
    lane, cost = told.get("lane"), told.get("cost")
    bare = task._replace(joins="")
    joined = join(task_type, bare, rules, payload, lock=rules.lock, lane=lane, cost=cost, secret=secret)
    return joined if joined.task.joins else joined._replace(task=joined.task._replace(joins=locks.NO_LOCK))
