"""What operators do: pause, drain, run now; and to dead letters: requeue, resubmit, purge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamq.calls.call import Arg, Call, build, pairs, text
from streamq.calls.producer import NOBODY
from streamq.keys import GROUP, ShardKeys, TypeKeys
from streamq.model.reply import Moved, Note


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


def run_now(t: TypeKeys, local: str, note: Note = NOBODY) -> Call[bool]:
    """Make a scheduled task ready; answers whether it was in the schedule."""
    return build("run_now", (local, *note), bool, t)


def unlock(t: TypeKeys, digest: str, *, force: bool, note: Note = NOBODY) -> Call[tuple[str, str]]:
    """Answers freed, held (refused) or free, and the local id of the lock's holder."""
    args = (GROUP, t.done_channel, digest, int(force), *note)
    return build("unlock", args, lambda r: (text(r[0]), text(r[1])), t)


def requeue(
    t: TypeKeys,
    limit: int,
    until_ms: int,
    ids: Sequence[str] = (),
    *,
    since_ms: int = 0,
    fingerprint: str = "",
    skip: int = 0,
    force: bool = False,
    note: Note = NOBODY,
) -> Call[Moved]:
    """Put back the oldest that died in this span of time, of one group of errors where `fingerprint` names
    it; or those with these ids. The oldest `skip` are passed over. force: also where another task holds the
    lock of its unique key."""
    args: tuple[Arg, ...] = (limit, skip, since_ms, until_ms, fingerprint, GROUP, int(force), *note, *ids)
    return build("requeue", args, _moved, t)


def _moved(reply: list[Any]) -> Moved:
    done, left, stay, held = reply
    return Moved(done, left, stay, tuple((text(local), text(holder)) for local, holder in pairs(held)))


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
    args: tuple[Arg, ...] = (limit, since_ms, until_ms, fingerprint, *note, *ids)
    return build("purge", args, lambda r: Moved(*r), t)


def resubmit(t: TypeKeys, local: str, payload: bytes, note: Note) -> Call[str]:
    """Answers the local id of the new task; '' where there is no such dead letter."""
    return build("resubmit", (local, payload, *note), text, t)
