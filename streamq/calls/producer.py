"""What producers ask: enqueue, register, wait, cancel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamq.calls.call import (
    WRITER_MEMORY_MS,
    Arg,
    Call,
    build,
    text,
)
from streamq.keys import APPS, GROUP, ShardKeys, TypeKeys
from streamq.model import (
    LETTER,
    Accepted,
    Answer,
    BacklogFull,
    NewTask,
    Note,
    RateLimited,
    TaskId,
)

NOBODY: Final = Note()


def enqueue(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, tasks: Iterable[NewTask]
) -> Call[list[Answer]]:
    """Accept tasks of one type. The same writer and sequence again gets the same answers."""
    args: list[Arg] = [t.type, sequence, WRITER_MEMORY_MS, s.wake]
    for task in tasks:
        args.append(_head(task))
        args.append(task.payload)
        for name, value in task.fields:
            args += (name, value)
    keys = (t.writer(writer), s.types, t.policy, t.rate, *t.streams, t.schedule, t.counters)
    return build("enqueue", keys, args, _answers)


def _head(task: NewTask) -> str:
    head = LETTER[task.priority]
    if task.due is not None:
        head += f"{'@' if task.absolute else '+'}{task.due}"
    return f"{head}/{len(task.fields)}" if task.fields else head


def _answers(reply: bytes) -> list[Answer]:
    return [_answer(text) for text in reply.decode().split(" ")]


def _answer(text: str) -> Answer:
    if text[0] == "!":
        return BacklogFull() if text == "!full" else RateLimited(int(text[1:]))
    return Accepted(text)


def register(t: TypeKeys, s: ShardKeys, handler: str, policy: dict[str, str]) -> Call[str]:
    """Make a type known with its policy; answers the handler that was registered before, or ''."""
    args = [t.type, handler, *(part for pair in policy.items() for part in pair)]
    return build("register", (s.types, t.policy), args, text)


def announce(app: str, details: bytes) -> Call[int]:
    """Make the app known on this server, for daemons and commands."""
    return build("announce", (APPS,), (app, details), int)


def wait(t: TypeKeys, local: str, wait_ms: int) -> Call[int]:
    return build("wait", (t.waiters,), (local, wait_ms), int)


def cancel(t: TypeKeys, s: ShardKeys, task: TaskId, note: Note = NOBODY) -> Call[str]:
    """Answers cancelled, requested (a worker has it), dead or unknown."""
    keys = (t.schedule, t.index, t.counters, t.cancels, t.waiters, t.gone, t.dead, *t.streams)
    args = (GROUP, task.local, str(task), s.control, t.done_channel, *note)
    return build("cancel", (*keys, s.action_log, s.actions), args, text)
