"""What operators do: pause, drain, run now; and to dead letters: requeue, resubmit, purge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from streamq.calls.call import Arg, Call, build, text
from streamq.calls.producer import NOBODY
from streamq.errors import UsageError
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Moved, Note


def _told(t: TypeKeys) -> tuple[str, str]:
    """What a script needs to tell the daemon of a lane."""
    return t.type, shard_keys(t.app, t.shard).wake


def pause(s: ShardKeys, task_type: str, details: bytes, note: Note = NOBODY) -> Call[bool]:
    """Have workers leave a type alone; answers whether it was not paused before."""
    return build("pause", (task_type, details, s.control, *note), bool, s=s)


def resume(s: ShardKeys, task_type: str, note: Note = NOBODY) -> Call[bool]:
    """Answers whether the type was paused."""
    return pause(s, task_type, b"", note)


def forget(
    t: TypeKeys, results: Sequence[str], rollups: Sequence[str], *, drop: bool, note: Note = NOBODY
) -> Call[bool]:
    """Remove a type from a shard; False where it holds a task or a dead letter there, or one of these results
    and they are not to be dropped."""
    return build("forget", (t.type, len(results), int(drop), *note), bool, t, kept=(*results, *rollups))


def drain(s: ShardKeys, worker: str, note: Note = NOBODY) -> Call[bool]:
    """Ask a worker to end; answers whether there is one of that name."""
    return build("drain", (worker, s.control, *note), bool, s=s)


def listen(s: ShardKeys, tail_ms: int, *, at_once: bool) -> Call[int]:
    """Have the workers of a shard tell what happens to tasks."""
    return build("listen", (tail_ms, s.control if at_once else ""), int, s=s)


def run_now(t: TypeKeys, local: str, note: Note = NOBODY, *, force: bool = False) -> Call[bool]:
    """Make a scheduled task ready, or one that is parked the first of its lane; `force`: past its limits.
    Answers whether it was either. Reading the reply raises UsageError where its lane is ordered."""
    return build("run_now", (local, int(force), *note, *_told(t)), partial(_ran, local), t)


def _ran(local: str, reply: int) -> bool:
    if reply < 0:
        raise UsageError(
            f"task {local} waits in an ordered lane, where no task overtakes another: "
            "cancel or purge those before it instead"
        )
    return reply == 1


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
    args: tuple[Arg, ...] = (limit, skip, since_ms, until_ms, fingerprint, *note, *_told(t), *ids)
    return build("requeue", args, lambda r: Moved(*r), t)


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
    args: tuple[Arg, ...] = (limit, since_ms, until_ms, fingerprint, *note, *_told(t), *ids)
    return build("purge", args, lambda r: Moved(*r), t)


def resubmit(t: TypeKeys, local: str, payload: bytes, note: Note) -> Call[str]:
    """Answers the local id of the new task; '' where there is no such dead letter."""
    return build("resubmit", (local, payload, *note, *_told(t)), text, t)
