"""What producers ask: enqueue, announce, register, wait, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from streamq import scripts
from streamq.calls.call import (
    WRITER_MEMORY_MS,
    Arg,
    Call,
    build,
    text,
)
from streamq.errors import InvalidOption
from streamq.keys import GROUP, ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Note
from streamq.model.task import (
    LETTER,
    Accepted,
    Answer,
    BacklogFull,
    Conflict,
    Duplicate,
    IdempotencyKey,
    NewTask,
    RateLimited,
    TaskId,
)
from streamq.namespace import namespace_of
from streamq.options.checks import Durability
from streamq.shards import AppRecord

NOBODY: Final = Note()
_new: Final = tuple.__new__


class NeedsLane(Exception):
    """The type has lanes, and enqueue took nothing: name the lane of each task, by the value of `argument`
    ('' where it is one lane for all), and send the call again."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.argument = argument


class ShardClosed(Exception):
    """The shard was given up, and enqueue took nothing: have it opened, and send the call again."""


def enqueue(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, tasks: Sequence[NewTask]
) -> Call[list[Answer]]:
    """Accept tasks of one type. The same writer and sequence again gets the same answers.

    Reading the reply raises ShardClosed and NeedsLane.
    """
    args: list[Arg] = [t.type, sequence, WRITER_MEMORY_MS, s.wake]
    noted: list[str] = []
    rich = False
    for task in tasks:
        payload, priority, due, _, fields, key, joins = task
        if due is None and not fields and key is None and not joins:
            args += (LETTER[priority], payload)
            continue
        args += (_head(task), payload)
        for name, value in fields:
            args += (name, value)
        if key is not None:
            args.append(key.digest)
            noted.append(s.key(key.name))
        if joins:
            args.append(joins)
            rich = True
    script = scripts.load("enqueue_rich" if rich else "enqueue")
    # As `build`, which would find and count on each call what is right by its making.
    keys = (t.writer(writer), *script.attributes_of(t, s), *noted)
    return _new(Call, (script, keys, tuple(args), _answers, None))


def _head(task: NewTask) -> str:
    head = LETTER[task.priority]
    if task.due is not None:
        head += f"{'@' if task.absolute else '+'}{task.due}"
    if task.fields:
        head += f"/{len(task.fields)}"
    if task.key is not None:
        head += f"#{task.key.window_ms}"
    return head + "*" if task.joins else head


def _answers(reply: bytes) -> list[Answer]:
    told = reply.decode()
    return [_answer(text) for text in told.split(" ")] if " " in told else [_answer(told)]


def _answer(text: str) -> Answer:
    if text[0] == "!":
        return _refusal(text)
    return Duplicate(text[1:]) if text[0] == "=" else _new(Accepted, (text,))


def _refusal(text: str) -> Answer:
    if text == "!closed":
        raise ShardClosed
    if text == "!full":
        return BacklogFull()
    word, colon, first = text.partition(":")
    if word == "!rich":
        raise NeedsLane(first)
    return Conflict(first) if colon else RateLimited(int(word[1:]))


class Confirmed(NamedTuple):
    """Enqueue's answers, and why they are not as durable as asked ('' where they are)."""

    answers: list[Answer]
    why: str


def confirmed(call: Call[list[Answer]], durability: Durability, wait_ms: int) -> Call[Confirmed]:
    """The call of an enqueue with the wait for replicas, or for the append-only file, behind it.

    The server counts what this connection has written, so both go out on one.
    """
    kind, _, number = durability.partition(":")
    needed = int(number or 1)
    wait: tuple[Arg, ...] = ("WAITAOF", 1, 0, wait_ms) if kind == "aof" else ("WAIT", needed, wait_ms)

    def parse(replies: tuple[Any, Any]) -> Confirmed:
        return Confirmed(call.parse(replies[0]), _missing(kind, needed, replies[1]))

    return Call(call.script, call.keys, call.args, parse, wait)


def _missing(kind: str, needed: int, reply: Any) -> str:
    if isinstance(reply, Exception):
        return f"the server answered: {reply}"
    if kind == "aof":
        return "" if reply[0] >= 1 else "its append-only file was not yet on the disk"
    return "" if reply >= needed else f"{reply} of {needed} replicas had it"


def probe_aof(t: TypeKeys) -> Call[Any]:
    """Ask for the append-only file without having written: an error where the server cannot do it."""
    return Call(None, (t.policy,), ("WAITAOF", 1, 0, 1), lambda reply: reply)


def earlier(s: ShardKeys, key: IdempotencyKey) -> Call[Answer | None]:
    """What a key has brought in a shard that is not its own any more; writes nothing."""

    def parse(raw: bytes | None) -> Answer | None:
        if raw is None:
            return None
        first = raw[16:].decode()
        return Duplicate(first.partition(":")[2]) if raw[:16] == key.digest else Conflict(first)

    name = s.key(key.name)
    return Call(None, (name,), ("GET", name), parse)


def register(t: TypeKeys, s: ShardKeys, handler: str, policy: dict[str, str]) -> Call[str]:
    """Make a type known with its policy; answers the handler that was registered before, or ''.

    Reading the reply raises InvalidOption where the type cannot become an ordered one.
    """
    args = [t.type, handler, s.wake, *(part for pair in policy.items() for part in pair)]
    return build("register", args, partial(_registered, t.type), t, s)


def _registered(task_type: str, reply: bytes) -> str:
    if reply[:1] == b"!":
        raise InvalidOption(
            f"task type {task_type!r} cannot become an ordered one while {int(reply[1:]):,} tasks wait that "
            "have no lane, and so no order: let them end first, or give the ordered type another name"
        )
    return text(reply)


def announce(app: str, shards: int, *, lead: bool = True, floor: int = 0) -> Call[AppRecord]:
    """Make the app known with its number of shards. Without `lead` the number that is current stays, and
    the record's epoch grows beyond `floor`: for a producer that needs a shard which was given up."""
    namespace, control = namespace_of(app), shard_keys(app, 0).control
    args = (app, shards, int(lead), floor, control, namespace.news)
    return build("announce", args, AppRecord.parse, apps=namespace.apps)


def app_record(app: str) -> Call[AppRecord | None]:
    """What the server knows of an app; None where it knows nothing."""
    key = namespace_of(app).apps
    return Call(None, (key,), ("HGET", key, app), lambda raw: None if raw is None else AppRecord.parse(raw))


def open_shard(s: ShardKeys, epoch: int) -> Call[int]:
    """Answers the epoch in which the shard was given up, -1 where it is open; it stays closed where that
    is not before `epoch`."""
    return build("open_shard", (epoch,), int, s=s)


def is_closed(s: ShardKeys) -> Call[bool]:
    """Whether the shard was given up."""
    return Call(None, (s.closed,), ("EXISTS", s.closed), bool)


def wait(t: TypeKeys, local: str, wait_ms: int) -> Call[int]:
    return build("wait", (local, wait_ms), int, t)


def cancel(t: TypeKeys, s: ShardKeys, task: TaskId, note: Note = NOBODY) -> Call[str]:
    """Answers cancelled, requested (a worker has it), dead or unknown."""
    args = (GROUP, task.local, str(task), s.control, t.done_channel, *note, t.type, s.wake)
    return build("cancel", args, text, t, s)
