"""How a schedule stands: its next time, its last run, its counts, and whether it is paused.

Owns the JSON of a state, which the script `tick` changes too. Whatever stands there is read as far as it can
be.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from streamq.stored import count, mapping, moment

Origin = Literal["code", "call"]
REMEMBERED: Final = 20
"""Fingerprints of replaced definitions that a row remembers."""


@dataclass(frozen=True, slots=True)
class Paused:
    """By whom, since when, and why."""

    by: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """How a schedule stands. Times are ms since the epoch by the server's clock.

    revision: grows with each change. origin: declared in code, or put by a call. anchor: what an interval
    counts from. next: the time of the next run; None where none follows. last: the latest time that was dealt
    with. run, run_type, ran, at, late: the last run that was made: local id, its type, its time, when it was
    made and how late that was. waiting: the time of a run that waits for the end of the one before. left: how
    many runs may follow. orphan: since when no worker declares it. prints: fingerprints of definitions that
    were replaced. leaving: it is on its way to another shard.
    """

    revision: int = 0
    origin: Origin = "call"
    anchor: int = 0
    next: int | None = None
    last: int = 0
    run: str = ""
    run_type: str = ""
    ran: int = 0
    at: int = 0
    late: int = 0
    runs: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    left: int | None = None
    waiting: int | None = None
    paused: Paused | None = None
    orphan: int | None = None
    prints: tuple[str, ...] = ()
    leaving: bool = False

    def stored(self) -> bytes:
        """Return it as JSON. What is not there is left out."""
        told: dict[str, Any] = {
            "revision": self.revision, "origin": self.origin, "anchor": self.anchor, "next": self.next,
            "last": self.last, "run": self.run, "run_type": self.run_type, "ran": self.ran, "at": self.at,
            "late": self.late, "runs": self.runs, "skipped": self.skipped, "left": self.left,
            "waiting": self.waiting, "orphan": self.orphan, "prints": list(self.prints),
            "leaving": self.leaving or None,
        }  # fmt: skip
        if self.paused is not None:
            one = self.paused
            told["paused"] = {"by": one.by, "reason": one.reason, "since_ms": one.since_ms}
        # Lua writes an empty list as an object.
        return orjson.dumps({name: value for name, value in told.items() if value not in (None, "", [], {})})

    def replaced(self, fingerprint: str) -> State:
        """Return the state once another definition has taken the place of one with this fingerprint."""
        return replace(self, prints=(*self.prints, fingerprint)[-REMEMBERED:])


def read(raw: bytes | None) -> State | None:
    """Return a stored state; None where there is none that could be worked with."""
    told = mapping(raw or b"")
    revision = told.get("revision")
    # As the script takes it, to which 1.0 is 1.
    if not isinstance(revision, int | float) or isinstance(revision, bool):
        return None
    if not 0 <= revision < 2**53 or revision % 1:
        return None
    return State(
        revision=int(revision),
        origin="code" if told.get("origin") == "code" else "call",
        anchor=moment(told.get("anchor")),
        next=_maybe(told.get("next")),
        last=moment(told.get("last")),
        run=_text(told.get("run")),
        run_type=_text(told.get("run_type")),
        ran=moment(told.get("ran")),
        at=moment(told.get("at")),
        late=moment(told.get("late")),
        runs=count(told.get("runs")),
        skipped=_counts(told.get("skipped")),
        left=None if told.get("left") is None else count(told["left"]),
        waiting=_maybe(told.get("waiting")),
        paused=_paused(told.get("paused")),
        orphan=_maybe(told.get("orphan")),
        prints=_prints(told.get("prints")),
        leaving=told.get("leaving") is True,
    )


def _maybe(raw: object) -> int | None:
    return moment(raw) or None


def _text(raw: object) -> str:
    return raw[:200] if isinstance(raw, str) else ""


def _counts(raw: object) -> dict[str, int]:
    return {str(name): count(value) for name, value in raw.items()} if isinstance(raw, dict) else {}


def _paused(raw: object) -> Paused | None:
    if not isinstance(raw, dict):
        return None
    return Paused(_text(raw.get("by")), str(raw.get("reason", ""))[:500], moment(raw.get("since_ms")))


def _prints(raw: object) -> tuple[str, ...]:
    return tuple(map(str, raw))[-REMEMBERED:] if isinstance(raw, list) else ()
