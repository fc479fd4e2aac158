"""The ways a delivery can end.

Owns their names in logs, metrics and traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from streamq.model.effect import Effect


class Completed(NamedTuple):
    """The handler returned; `result` is JSON with a note of the attempt (see `codec.keep`), kept for
    `retention_ms` (0: not at all)."""

    result: bytes = b""
    retention_ms: int = 0


class Retried(NamedTuple):
    """The attempt failed and the task runs again in `delay_ms`; `failures` is the JSON list of all."""

    delay_ms: int
    failures: bytes


class Died(NamedTuple):
    """The task becomes a dead letter. `started` is False where no handler was called; `fingerprint` is
    what it is grouped by, the reason where it is empty."""

    reason: str
    failures: bytes
    started: bool = True
    fingerprint: str = ""


class Cancelled(NamedTuple):
    """Somebody cancelled the task before it completed."""

    started: bool = True


@dataclass(frozen=True, slots=True)
class Expired:
    """The task was too old to be worth running."""


class HandedBack(NamedTuple):
    """The worker gives the task back unharmed: it is stopping, or may not run it now.

    delay_ms: the task runs again no sooner, since this worker is too old for it; 0 is at once. times: how
    often it has then been handed back for that.
    """

    started: bool = False
    delay_ms: int = 0
    times: int = 0


Outcome = Completed | Retried | Died | Cancelled | Expired | HandedBack
OUTCOMES: Final[dict[type, str]] = {
    Completed: "completed", Retried: "retried", Died: "dead", Cancelled: "cancelled", Expired: "expired",
    HandedBack: "handed_back",
}  # fmt: skip
"""What each way of ending is called in logs, metrics and traces."""


def name_of(outcome: Outcome) -> str:
    return OUTCOMES[type(outcome)]


class Settlement(NamedTuple):
    """One delivery with its outcome, on its way to the settle script. rich: the task holds a claim, so the
    rich script settles it. effects: what it does besides; these need the rich script as well."""

    place: str
    local: str
    outcome: Outcome
    rich: bool = False
    effects: tuple[Effect, ...] = ()
