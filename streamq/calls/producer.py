"""Build a producer's calls: enqueue, announce, register, wait, cancel.

Owns what a producer sends and how enqueue's reply is parsed. Does not retry: `client` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from streamq import scripts
from streamq.calls.call import (
    WRITER_MEMORY_MS,
    Arg,
    Call,
    Reply,
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
    Locked,
    NewTask,
    RateLimited,
    TaskId,
    Unjoined,
)
from streamq.namespace import namespace_of
from streamq.options.checks import Durability
from streamq.shards import AppRecord

NO_NOTE: Final = Note()
_new: Final = tuple.__new__


class NotJoined(Exception):
    """The type's policy needs more than plain tasks have, and enqueue accepted nothing: see `Unjoined`."""


class NeedsLane(Exception):
    """The type has lanes, and enqueue took nothing: name the lane of each task, by the value of `argument`
    ('' where it is one lane for all), and send the call again."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.argument = argument


class ShardClosed(Exception):
    """The shard was closed, and enqueue accepted nothing: open the shard and send the call again."""


def enqueue(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, tasks: Sequence[NewTask]
) -> Call[list[Answer]]:
    """Accept tasks of one type. The same writer and sequence again get the same answers.

    Parsing the reply raises ShardClosed and NeedsLane.
    """
    args: list[Arg] = [t.type, sequence, WRITER_MEMORY_MS, s.wake]
    noted: list[str] = []
    rich = False
    for task in tasks:
        payload, priority, due, _, fields, key, joins = task
        if due is None and not fields and key is None and not joins:
            args += (LETTER[priority], payload)
            continue
        args += written(task)
        if key is not None:
            noted.append(s.key(key.name))
        if joins:
            args.append(joins)
            rich = True
    script = scripts.load("enqueue_rich" if rich else "enqueue")
    # Like `build`, without resolving and counting on each call what is correct by construction.
    keys = (t.writer(writer), *script.attributes_of(t, s), *noted)
    return _new(Call, (script, keys, tuple(args), _answers, None))


def written(task: NewTask) -> Iterator[Arg]:
    """Return a task as the script reads it, but for what it joins."""
    yield _head(task)
    yield task.payload
    for pair in task.fields:
        yield from pair
    if task.key is not None:
        yield task.key.digest


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
    words = reply.decode().split(" ")
    return [_new(Accepted, (word,)) if word[0] not in "!=" else _other(word) for word in words]


def _other(text: str) -> Answer:
    return _refusal(text) if text[0] == "!" else Duplicate(text[1:])


def _refusal(text: str) -> Answer:
    if text == "!closed":
        raise ShardClosed
    if text == "!rich":
        raise NotJoined
    if text == "!unjoined":
        return Unjoined()
    if text == "!full":
        return BacklogFull()
    word, colon, first = text.partition(":")
    if word == "!unique":
        return Locked(first)
    if word == "!rich" and colon:
        raise NeedsLane(first)
    return Conflict(first) if colon else RateLimited(int(word[1:]))


class Confirmed(NamedTuple):
    """Enqueue's answers, and why they are not as durable as requested ('' if they are)."""

    answers: list[Answer]
    why: str


def confirmed(call: Call[list[Answer]], durability: Durability, wait_ms: int) -> Call[Confirmed]:
    """Return the enqueue call followed by a wait for replicas or for the append-only file.

    The server counts what a connection has written, so both are sent on one connection.
    """
    kind, _, number = durability.partition(":")
    needed = int(number or 1)
    wait: tuple[Arg, ...] = ("WAITAOF", 1, 0, wait_ms) if kind == "aof" else ("WAIT", needed, wait_ms)

    def parse(replies: tuple[Reply, Reply]) -> Confirmed:
        return Confirmed(call.parse(replies[0]), _missing(kind, needed, replies[1]))

    return Call(call.script, call.keys, call.args, parse, wait)


def _missing(kind: str, needed: int, reply: Reply) -> str:
    if isinstance(reply, Exception):
        return f"the server answered: {reply}"
    if kind == "aof":
        return "" if reply[0] >= 1 else "its append-only file was not yet on the disk"
    return "" if reply >= needed else f"{reply} of {needed} replicas had it"


def probe_aof(t: TypeKeys) -> Call[object]:
    """Wait for the append-only file without a preceding write: fails if the server cannot do it."""
    return Call(None, (t.policy,), ("WAITAOF", 1, 0, 1), lambda reply: reply)


def earlier(s: ShardKeys, key: IdempotencyKey) -> Call[Answer | None]:
    """Return the answer that an idempotency key got in a shard that is no longer its own; writes nothing."""

    def parse(raw: bytes | None) -> Answer | None:
        if raw is None:
            return None
        first = raw[16:].decode()
        return Duplicate(first.partition(":")[2]) if raw[:16] == key.digest else Conflict(first)

    name = s.key(key.name)
    return Call(None, (name,), ("GET", name), parse)


def holder_of_key(s: ShardKeys, key: str) -> Call[tuple[str, str] | None]:
    """Read the type and the local id of the task that has an idempotency key in a shard; None if none has."""

    def parse(raw: bytes | None) -> tuple[str, str] | None:
        task_type, colon, local = ("", "", "") if raw is None else text(raw[16:]).partition(":")
        return (task_type, local) if colon else None

    name = s.key(key)
    return Call(None, (name,), ("GET", name), parse)


def lock_holder(t: TypeKeys, digest: bytes) -> Call[str]:
    """Read the local id of the task that holds the lock of a unique key in a shard; '' if none does."""
    return Call(None, (t.unique,), ("HGET", t.unique, digest), lambda r: "" if r is None else text(r))


def policy_rules(t: TypeKeys) -> Call[dict[str, str]]:
    """Read the rules of a type's lanes and unique keys that are in force, as fields of its policy; and as
    `held` the features that its held rules need, with commas."""
    names = ("gate", "lane", "unique", "held")
    return build(
        "policy_rules",
        (),
        lambda r: {name: text(value) for name, value in zip(names, r, strict=True) if value},
        t,
    )


def register(
    t: TypeKeys, s: ShardKeys, handler: str, policy: dict[str, str], lacking: Collection[str] | None = ()
) -> Call[str | None]:
    """Register a type with its policy. Returns the handler that was registered before, or ''.

    lacking: the features that a living process of the type lacks: new rules that need one of these are held.
    None: not known. If it matters, the answer is None, and nothing was registered.
    Parsing the reply raises InvalidOption if the type cannot become ordered.
    """
    told = "?" if lacking is None else _in_commas(lacking)
    args = [t.type, handler, s.wake, told, *(part for pair in policy.items() for part in pair)]
    return build("register", args, partial(_registered, t.type), t, s)


def enforce(t: TypeKeys, s: ShardKeys, lacking: Collection[str]) -> Call[int]:
    """Put rules of a type into force that were held, and that need none of these features; and back into its
    policy, if an older release has removed them. Returns how many came into force."""
    return build("enforce", (t.type, s.wake, _in_commas(lacking)), int, t, s)


def _in_commas(names: Collection[str]) -> str:
    return "".join(f",{name}," for name in names)


def _registered(task_type: str, reply: bytes) -> str | None:
    if reply == b"?":
        return None
    if reply[:1] == b"!":
        raise InvalidOption(
            f"task type {task_type!r} cannot become ordered: {int(reply[1:]):,} of its tasks wait without a "
            "lane, and so without an order. Let them end first, or give the ordered type another name"
        )
    return text(reply)


def announce(app: str, shards: int, *, lead: bool = True, floor: int = 0) -> Call[AppRecord]:
    """Announce the app with its number of shards. Without `lead` the current number stays, and the record's
    epoch grows beyond `floor`: for a producer that needs a shard which was closed."""
    namespace, control = namespace_of(app), shard_keys(app, 0).control
    args = (app, shards, int(lead), floor, control, namespace.news)
    return build("announce", args, AppRecord.parse, apps=namespace.apps)


def app_record(app: str) -> Call[AppRecord | None]:
    """Return the server's record of an app; None if it has none."""
    key = namespace_of(app).apps
    return Call(None, (key,), ("HGET", key, app), lambda raw: None if raw is None else AppRecord.parse(raw))


def open_shard(s: ShardKeys, epoch: int) -> Call[int]:
    """Open a shard unless it was closed in `epoch` or later. Returns the epoch in which it was closed, -1 if
    it is open."""
    return build("open_shard", (epoch,), int, s=s)


def is_closed(s: ShardKeys) -> Call[bool]:
    """Return whether the shard was closed."""
    return Call(None, (s.closed,), ("EXISTS", s.closed), bool)


def wait(t: TypeKeys, local: str, wait_ms: int) -> Call[int]:
    return build("wait", (local, wait_ms), int, t)


def cancel(t: TypeKeys, s: ShardKeys, task: TaskId, note: Note = NO_NOTE) -> Call[str]:
    """Cancel a task. Returns cancelled, requested (a worker has it), dead or unknown."""
    args = (GROUP, task.local, str(task), s.control, t.done_channel, *note, t.type, s.wake)
    return build("cancel", args, text, t, s)
