"""Ask single nodes for INFO, CONFIG and the time, as far as the user may see them.

Owns these questions. On a cluster each node is asked separately. Judges nothing: see `server`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.errors import AuthenticationFailed, ServerError
from streamq.transport.sync_transport import SyncTransport

R = TypeVar("R")

_SETTINGS: Final = (
    "appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "min-replicas-to-write",
)  # fmt: skip
_SAMPLES_TAKEN: Final = 9


@dataclass(frozen=True, slots=True)
class Node:
    """A node's INFO and settings; both are empty if the user may not see them.

    `round_trip`: seconds per question; `skew`: seconds by which the node's clock is ahead of this host's.
    """

    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    round_trip: float = 0.0
    skew: float = 0.0

    def number(self, name: str) -> int:
        """Return a number from INFO; 0 if it is absent."""
        value = self.info.get(name, "").partition(".")[0]
        return int(value) if value.lstrip("-").isdigit() else 0

    @property
    def version(self) -> tuple[int, ...]:
        text = self.info.get(f"{self.kind}_version", "")
        return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())

    @property
    def kind(self) -> str:
        return "valkey" if "valkey_version" in self.info else "redis"

    @property
    def replicas(self) -> list[dict[str, str]]:
        """Return the attached replicas: ip, port, state, lag."""
        rows = [self.info.get(f"slave{n}", "") for n in range(self.number("connected_slaves"))]
        return [dict(pair.split("=", 1) for pair in row.split(",") if "=" in pair) for row in rows if row]


class Runner(Protocol):
    """Runs calls: a transport, or one of its nodes."""

    def run(self, call: Call[R]) -> R: ...


@dataclass(frozen=True, slots=True)
class _NodeRunner:
    """One node of a transport."""

    transport: SyncTransport
    where: str

    def run(self, call: Call[R]) -> R:
        return self.transport.run_on_node(self.where, call)


def ask_all(transport: SyncTransport) -> dict[str, Node]:
    """Ask every node that holds data. Returns the nodes by address. Raises RedisErrors."""
    return {
        where: ask(_NodeRunner(transport, where))
        for where in transport.run_on_all_nodes(question_calls.now())
    }


def ask(transport: Runner) -> Node:
    """Ask one node. Raises RedisUnavailable, ServerTooOld, or AuthenticationFailed if the login fails."""
    round_trip, skew = _clock(transport)
    return Node(_info(transport), _settings(transport), round_trip, skew)


def permitted(transport: Runner, *command: str | int) -> object:
    """Return a command's raw reply; None if the user or the server does not allow it."""
    try:
        return transport.run(Call(None, (), command, lambda reply: reply))
    except (AuthenticationFailed, ServerError):
        return None


def _info(transport: Runner) -> dict[str, str]:
    raw = permitted(transport, "INFO")
    lines = raw.decode("utf-8", "replace").splitlines() if isinstance(raw, bytes) else []
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _settings(transport: Runner) -> dict[str, str]:
    raw = permitted(transport, "CONFIG", "GET", *_SETTINGS)
    words = [word.decode("utf-8", "replace") for word in raw] if isinstance(raw, list) else []
    return dict(zip(words[::2], words[1::2], strict=True))


def _clock(transport: Runner) -> tuple[float, float]:
    """Return the median round trip, and the skew according to the fastest."""
    transport.run(question_calls.now())  # connects
    seen: list[tuple[float, float]] = []
    for _ in range(_SAMPLES_TAKEN):
        began, wall = time.perf_counter(), time.time()
        theirs = transport.run(question_calls.now()) / 1000
        took = time.perf_counter() - began
        seen.append((took, theirs - (wall + took / 2)))
    return statistics.median(took for took, _ in seen), min(seen)[1]
