"""Define the ways a delivery can end.

Owns their names in logs, metrics and traces. Decides none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from streamq.model.effect import Effect


class Completed(NamedTuple):
    """The handler returned. `result` is JSON with the attempt's details (see `envelope`), stored for
    `retention_ms` (0: not stored)."""

    result: bytes = b""
    retention_ms: int = 0


class Retried(NamedTuple):
    """The attempt failed and the task runs again in `delay_ms`; `failures` is the JSON list of all
    failures."""

    delay_ms: int
    failures: bytes


class Died(NamedTuple):
    """The task becomes a dead letter. `started` is False if no handler was called; dead letters are grouped
    by `fingerprint`, or by the reason if it is empty."""

    reason: str
    failures: bytes
    started: bool = True
    fingerprint: str = ""


class Cancelled(NamedTuple):
    """The task was cancelled before it completed."""

    started: bool = True


@dataclass(frozen=True, slots=True)
class Expired:
    """The task expired before it was run."""


class HandedBack(NamedTuple):
    """The worker gives the task back unharmed: it is stopping, or must not run it now.

    delay_ms: the task is not run again before that, because this worker is too old for it; 0 means at once.
    times: how often it has been handed back for that reason.
    """

    started: bool = False
    delay_ms: int = 0
    times: int = 0


Outcome = Completed | Retried | Died | Cancelled | Expired | HandedBack
OUTCOMES: Final[dict[type, str]] = {
    Completed: "completed", Retried: "retried", Died: "dead", Cancelled: "cancelled", Expired: "expired",
    HandedBack: "handed_back",
}  # fmt: skip
"""The name of each way of ending in logs, metrics and traces."""


def name_of(outcome: Outcome) -> str:
    return OUTCOMES[type(outcome)]


class Settlement(NamedTuple):
    """One delivery with its outcome, on its way to the settle script. rich: the task holds a claim, so the
    rich script settles it. effects: what it does besides; these need the rich script as well. claims: those
    of its entry, as the scripts pack them, so that the script need not read it; empty if unknown."""

    place: str
    local: str
    outcome: Outcome
    rich: bool = False
    effects: tuple[Effect, ...] = ()
    claims: bytes = b""
