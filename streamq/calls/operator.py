"""Build an operator's calls: pause, drain, run now; for dead letters: requeue, resubmit, purge.

Owns what an operator's action sends. Logs nothing itself: the scripts write the action log from `note`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from streamq import memos
from streamq.calls.call import Arg, Call, Reply, build, pairs, text
from streamq.calls.producer import NO_NOTE
from streamq.errors import UsageError
from streamq.keys import GROUP, ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Moved, Note


def _wake(t: TypeKeys) -> tuple[str, str]:
    """Return what a script needs to wake the daemon for a type: its name, and the channel."""
    return t.type, shard_keys(t.app, t.shard).wake


def pause(s: ShardKeys, task_type: str, details: bytes, note: Note = NO_NOTE) -> Call[bool]:
    """Have workers stop taking a type. Returns whether it was not paused before."""
    return build("pause", (task_type, details, s.control, *note), bool, s=s)


def resume(s: ShardKeys, task_type: str, note: Note = NO_NOTE) -> Call[bool]:
    """Undo `pause`. Returns whether the type was paused."""
    return pause(s, task_type, b"", note)


def forget(
    t: TypeKeys, results: Sequence[str], rollups: Sequence[str], *, drop: bool, note: Note = NO_NOTE
) -> Call[bool]:
    """Remove a type from a shard. Returns False if it holds a task or a dead letter there, or one of these
    results and `drop` is not set."""
    return build("forget", (t.type, len(results), int(drop), *note), bool, t, kept=(*results, *rollups))


def drain(s: ShardKeys, worker: str, note: Note = NO_NOTE) -> Call[bool]:
    """Ask a worker to stop. Returns whether a worker of that name exists."""
    return build("drain", (worker, s.control, *note), bool, s=s)


def dismiss(s: ShardKeys, worker: str, seen_ms: int, note: Note = NO_NOTE) -> Call[int]:
    """Take a worker off the list if its last heartbeat is not after `seen_ms`. Returns 1, 0 if there is no
    such worker, -1 if it lives."""
    return build("dismiss", (worker, seen_ms, *note), int, s=s)


def listen(s: ShardKeys, tail_ms: int, *, at_once: bool) -> Call[int]:
    """Have the workers of a shard publish task events."""
    return build("listen", (tail_ms, s.control if at_once else ""), int, s=s)


def run_now(t: TypeKeys, local: str, note: Note = NO_NOTE, *, force: bool = False) -> Call[bool]:
    """Make a scheduled task ready, or a parked task the first of its lane. Returns whether it was either.
    force: ignore its lane's limits. Parsing the reply raises UsageError if its lane is ordered, or if
    it waits for a signal."""
    return build("run_now", (local, int(force), memos.sleep(0), *note, *_wake(t)), partial(_ran, local), t)


def _ran(local: str, reply: int) -> bool:
    if reply == -2:
        raise UsageError(
            f"cannot run task {local} now: it waits for a signal. Give it that, with `handle.signal`, "
            "`app.admin.signal` or `streamq task signal`"
        )
    if reply < 0:
        raise UsageError(
            f"cannot run task {local} now: it waits in an ordered lane, where no task overtakes another. "
            "Cancel or purge the tasks before it instead"
        )
    return reply == 1


def unlock(t: TypeKeys, digest: str, *, force: bool, note: Note = NO_NOTE) -> Call[tuple[str, str]]:
    """Release the lock of a unique key. Returns freed, held (refused) or free, and the holder's local id."""
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
    fresh: bool = False,
    note: Note = NO_NOTE,
) -> Call[Moved]:
    """Requeue the oldest dead letters of a time span, of one error group if `fingerprint` is given; or those
    with these ids. Skips the oldest `skip`. force: also if another task holds the letter's unique key.
    fresh: without the memos of its steps."""
    force_arg = (GROUP, int(force), int(fresh))
    args: tuple[Arg, ...] = (
        limit, skip, since_ms, until_ms, fingerprint, *force_arg, *note, *_wake(t), *ids,
    )  # fmt: skip
    return build("requeue", args, _moved, t)


def _moved(reply: list[Reply]) -> Moved:
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
    note: Note = NO_NOTE,
) -> Call[Moved]:
    """Delete dead letters for good, selected as in `requeue`."""
    args: tuple[Arg, ...] = (limit, since_ms, until_ms, fingerprint, *note, *_wake(t), *ids)
    return build("purge", args, lambda r: Moved(*r), t)


def reseal(
    t: TypeKeys, local: str, payload: tuple[bytes, bytes], failures: tuple[bytes, bytes], note: Note
) -> Call[bool]:
    """Replace the payload and the errors of a dead letter, each given as it was read and as it is to be, if
    both are as they were read."""
    return build("reseal", (local, *payload, *failures, *note), bool, t)


def resubmit(t: TypeKeys, local: str, payload: bytes, note: Note) -> Call[str]:
    """Enqueue a dead letter's task again with another payload. Returns the new local id; '' if there is no
    such dead letter."""
    return build("resubmit", (local, payload, *note, *_wake(t)), text, t)
