"""What operators do: pause, drain, run now; and to dead letters: requeue, resubmit, purge."""

from __future__ import annotations

from collections.abc import Sequence

from streamq.calls.call import Arg, Call, build, text
from streamq.calls.producer import NOBODY
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.model import Moved, Note


def pause(s: ShardKeys, task_type: str, details: bytes, note: Note = NOBODY) -> Call[bool]:
    """Have workers leave a type alone; answers whether it was not paused before."""
    keys = (s.paused, s.action_log, s.actions)
    return build("pause", keys, (task_type, details, s.control, *note), bool)


def resume(s: ShardKeys, task_type: str, note: Note = NOBODY) -> Call[bool]:
    """Answers whether the type was paused."""
    return pause(s, task_type, b"", note)


def forget(
    t: TypeKeys, results: Sequence[str], rollups: Sequence[str], *, drop: bool, note: Note = NOBODY
) -> Call[bool]:
    """Remove a type from a shard; False where it holds a task or a dead letter there, or one of these results
    and they are not to be dropped."""
    s = shard_keys(t.app, t.shard)
    places = (t.schedule, t.dead, t.letters, t.index, t.groups, t.gone, t.waiters, t.cancels)
    about = (t.policy, t.counters, t.rate, t.buckets, t.sampled, t.expiring)
    keys = (s.types, s.paused, s.action_log, s.actions, *t.streams, *places, *about, *results, *rollups)
    return build("forget", keys, (t.type, len(results), int(drop), *note), bool)


def drain(s: ShardKeys, worker: str, note: Note = NOBODY) -> Call[bool]:
    """Ask a worker to end; answers whether there is one of that name."""
    keys = (s.workers, s.drains, s.action_log, s.actions)
    return build("drain", keys, (worker, s.control, *note), bool)


def listen(s: ShardKeys, tail_ms: int, *, at_once: bool) -> Call[int]:
    """Have the workers of a shard tell what happens to tasks."""
    return build("listen", (s.tail,), (tail_ms, s.control if at_once else ""), int)


def run_now(t: TypeKeys, local: str, note: Note = NOBODY) -> Call[bool]:
    """Make a scheduled task ready; answers whether it was in the schedule."""
    s = shard_keys(t.app, t.shard)
    keys = (t.schedule, t.index, t.high, t.normal, t.low, s.action_log, s.actions, *s.rung)
    return build("run_now", keys, (local, *note), bool)


def requeue(
    t: TypeKeys,
    limit: int,
    until_ms: int,
    ids: Sequence[str] = (),
    *,
    since_ms: int = 0,
    fingerprint: str = "",
    skip: int = 0,
    note: Note = NOBODY,
) -> Call[Moved]:
    """Put back the oldest that died in this span of time, of one group of errors where `fingerprint` names
    it; or those with these ids. The oldest `skip` are passed over."""
    s = shard_keys(t.app, t.shard)
    keys = (t.dead, t.letters, t.groups, t.counters, t.index, t.high, t.normal, t.low)
    args: tuple[Arg, ...] = (limit, skip, since_ms, until_ms, fingerprint, *note, *ids)
    return build("requeue", (*keys, s.action_log, s.actions, *s.rung), args, lambda r: Moved(*r))


def purge(
    t: TypeKeys,
    limit: int,
    until_ms: int,
    ids: Sequence[str] = (),
    *,
    since_ms: int = 0,
    fingerprint: str = "",
    note: Note = NOBODY,
) -> Call[Moved]:
    """Delete for good, as `requeue` puts back."""
    s = shard_keys(t.app, t.shard)
    keys = (t.dead, t.letters, t.groups, t.counters, s.action_log, s.actions)
    args: tuple[Arg, ...] = (limit, since_ms, until_ms, fingerprint, *note, *ids)
    return build("purge", keys, args, lambda r: Moved(*r))


def resubmit(t: TypeKeys, local: str, payload: bytes, note: Note) -> Call[str]:
    """Answers the local id of the new task; '' where there is no such dead letter."""
    s = shard_keys(t.app, t.shard)
    keys = (t.dead, t.letters, t.groups, t.counters, t.high, t.normal, t.low, s.action_log, s.actions)
    return build("resubmit", (*keys, *s.rung), (local, payload, *note), text)
