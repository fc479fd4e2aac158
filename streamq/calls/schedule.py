"""What is asked of schedules: read them, write one as it was seen, and make a run that is due."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from streamq.calls.call import Arg, Call, build, moment, text
from streamq.calls.producer import NO_NOTE
from streamq.keys import SCHEDULES, ShardKeys, TypeKeys
from streamq.locks import throttle_name
from streamq.model.reply import Note
from streamq.model.task import NAME_PATTERN
from streamq.schedules.definition import Definition
from streamq.schedules.plan import Move

WAITING: Final = ":waiting"
AGAIN_MS: Final = 1000
"""Ms after which it is looked again whether the run has ended that another waits for."""

Mode = Literal["tick", "waiting", "now"]
Beside = Literal["skip", "allow", "queue_one", "replace", "end_first"]
"""What becomes of a run while the one before has not ended. replace: it is made and the other asked to end;
end_first: the other is asked to end, and it waits for that."""


class Row(NamedTuple):
    """A schedule as it is stored. due: its score, None where nothing follows."""

    name: str
    definition: bytes | None
    state: bytes | None
    due: int | None = None


class DueRow(NamedTuple):
    """A schedule whose time has come. score: as the server wrote it. waiting: it is the run that waits for
    the end of the one before."""

    row: Row
    score: str
    waiting: bool

    @property
    def key(self) -> tuple[str, bool, str]:
        """Which row it is, and where it was seen."""
        return self.row.name, self.waiting, self.score


class Due(NamedTuple):
    """What is due; `next_ms`: when the next is, None where nothing follows."""

    now_ms: int
    rows: list[DueRow]
    next_ms: int | None


class Ticked(NamedTuple):
    """What became of a run. detail: its local id, or why it was skipped. holder: the task that holds its key.
    `rich`: nothing, as the type's policy asks for more than the definition says."""

    outcome: Literal["made", "skipped", "waiting", "lost", "rich"]
    detail: str
    holder: str = ""


def due(s: ShardKeys, skip: int, limit: int) -> Call[Due]:
    """Schedules whose time has come, but for the first `skip`."""
    return build("due_schedules", (skip, limit), _due, s=s)


def _due(reply: list[Any]) -> Due:
    now, flat, following = reply
    rows = [_due_row(*flat[n : n + 4]) for n in range(0, len(flat), 4)]
    return Due(now, rows, None if following < 0 else following)


def _due_row(member: bytes, score: bytes, definition: bytes | None, state: bytes | None) -> DueRow:
    name, waits, _ = text(member).partition(WAITING)
    return DueRow(Row(name, definition, state, moment(score)), text(score), bool(waits))


def page(s: ShardKeys, cursor: str, limit: int) -> Call[tuple[str, list[Row]]]:
    """A page of a shard's schedules, and the cursor to go on from ('' at the end)."""
    return build("page_schedules", (cursor or "0", limit), _page, s=s)


def _page(reply: list[Any]) -> tuple[str, list[Row]]:
    cursor, flat = reply
    rows = [
        Row(text(name), definition, state, None if score is None else moment(score))
        for name, definition, state, score in (flat[n : n + 4] for n in range(0, len(flat), 4))
    ]
    return "" if cursor == b"0" else text(cursor), [row for row in rows if NAME_PATTERN.fullmatch(row.name)]


def read(s: ShardKeys, name: str) -> Call[Row]:
    """One schedule; both of its parts are None where there is none."""
    args = ("HMGET", s.schedules, name, f"{name}:state")
    return Call(None, (s.schedules,), args, lambda r: Row(name, r[0], r[1]))


def payload(s: ShardKeys, name: str) -> Call[bytes | None]:
    """What each task of a schedule is given."""
    return Call(None, (s.schedules,), ("HGET", s.schedules, f"{name}:payload"), lambda r: r)


def has_payload(s: ShardKeys, name: str) -> Call[bool]:
    """Whether there is something to give to each task of a schedule."""
    return Call(None, (s.schedules,), ("HEXISTS", s.schedules, f"{name}:payload"), bool)


def due_members(s: ShardKeys, start: int, limit: int) -> Call[list[str]]:
    """The members of the due times, whatever they are, by their place."""
    args = ("ZRANGE", s.schedules_due, start, start + limit - 1)
    return Call(None, (s.schedules_due,), args, lambda reply: [_shown_text(one) for one in reply])


def is_due(s: ShardKeys, member: str) -> Call[bool]:
    args = ("ZSCORE", s.schedules_due, _raw(member))
    return Call(None, (s.schedules_due,), args, lambda reply: reply is not None)


def drop_due(s: ShardKeys, member: str) -> Call[bool]:
    """Remove a due time whose member is the name of no schedule."""
    return Call(None, (s.schedules_due,), ("ZREM", s.schedules_due, _raw(member)), bool)


def _shown_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw(member: str) -> bytes:
    return member.encode("utf-8", "surrogateescape")


def write(
    s: ShardKeys,
    name: str,
    revision: int,
    state: bytes,
    due_ms: int | None,
    definition: bytes = b"",
    payload: bytes = b"",
    note: Note = NO_NOTE,
) -> Call[bool]:
    """Write a schedule that stands at this revision (0: there is none); False where it does not. An empty
    state removes it."""
    shown: Arg = "" if due_ms is None else due_ms
    args: tuple[Arg, ...] = (name, revision, state, definition, payload, shown, s.wake, SCHEDULES, *note)
    return build("write_schedule", args, bool, s=s)


def tick(
    t: TypeKeys,
    s: ShardKeys,
    mode: Mode,
    name: str,
    revision: int,
    score: str,
    move: Move,
    overlap: Beside,
    definition: Definition,
) -> Call[Ticked]:
    """Make a run, or skip it; nothing where the schedule is not as it was seen."""
    args: list[Arg] = [mode, name, revision, score]
    args += [_shown(move.run), move.upto, _shown(move.next), _shown(move.due), move.skipped]
    args += [overlap, AGAIN_MS, t.type, definition.letter, definition.joins, s.wake]
    for pair in definition.fields:
        args += pair
    if not definition.joins:
        return build("tick", args, _ticked, t, s)
    throttle = definition.parts.get("throttle")
    keys = [s.key(throttle_name(t.type, throttle["key"]))] if throttle else []
    return build("tick_rich", args, _ticked, t, s, keys=keys)


def _ticked(reply: list[bytes]) -> Ticked:
    outcome, *more = reply
    return Ticked(_OUTCOMES[outcome], *map(text, more))


_OUTCOMES: Final[dict[bytes, Literal["made", "skipped", "waiting", "lost", "rich"]]] = {
    b"made": "made", b"skipped": "skipped", b"waiting": "waiting", b"lost": "lost", b"rich": "rich",
}  # fmt: skip


def _shown(ms: int | None) -> Arg:
    return "" if ms is None else ms


def log_action(s: ShardKeys, done: int, note: Note) -> Call[int]:
    """Note what an operator did by several calls."""
    return build("log_action", (done, *note), int, s=s)
