"""What one node says of itself: INFO and CONFIG, as far as the user may see them.

Owns the asking. On a cluster each node is asked by itself.
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
_ASKED: Final = 9


@dataclass(frozen=True, slots=True)
class Node:
    """A node's INFO and settings; both are empty where the user may not see them.

    `round_trip`: seconds a question takes; `skew`: by how many seconds its clock is ahead of ours.
    """

    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    round_trip: float = 0.0
    skew: float = 0.0

    def number(self, name: str) -> int:
        """A number of INFO; 0 where it is not told."""
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
        """The replicas that are attached: ip, port, state, lag."""
        rows = [self.info.get(f"slave{n}", "") for n in range(self.number("connected_slaves"))]
        return [dict(pair.split("=", 1) for pair in row.split(",") if "=" in pair) for row in rows if row]


class Runs(Protocol):
    """What runs a call: a transport, or one of its nodes."""

    def run(self, call: Call[R]) -> R: ...


@dataclass(frozen=True, slots=True)
class There:
    """One node of a transport."""

    transport: SyncTransport
    where: str

    def run(self, call: Call[R]) -> R:
        return self.transport.run_on_node(self.where, call)


def ask_all(transport: SyncTransport) -> dict[str, Node]:
    """Ask every node that holds data; answers by address. Raises RedisErrors."""
    return {where: ask(There(transport, where)) for where in transport.run_on_all_nodes(question_calls.now())}


def ask(transport: Runs) -> Node:
    """Ask one node. Raises RedisUnavailable, ServerTooOld, or AuthenticationFailed where the login fails."""
    round_trip, skew = _clock(transport)
    return Node(_info(transport), _settings(transport), round_trip, skew)


def permitted(transport: Runs, *command: str | int) -> object:
    """A command's raw reply; None where the user or the server does not allow it."""
    try:
        return transport.run(Call(None, (), command, lambda reply: reply))
    except (AuthenticationFailed, ServerError):
        return None


def _info(transport: Runs) -> dict[str, str]:
    raw = permitted(transport, "INFO")
    lines = raw.decode("utf-8", "replace").splitlines() if isinstance(raw, bytes) else []
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _settings(transport: Runs) -> dict[str, str]:
    raw = permitted(transport, "CONFIG", "GET", *_SETTINGS)
    words = [word.decode("utf-8", "replace") for word in raw] if isinstance(raw, list) else []
    return dict(zip(words[::2], words[1::2], strict=True))


def _clock(transport: Runs) -> tuple[float, float]:
    """The median round trip, and the skew as the quickest of them tells it."""
    transport.run(question_calls.now())  # connects
    seen: list[tuple[float, float]] = []
    for _ in range(_ASKED):
        began, wall = time.perf_counter(), time.time()
        theirs = transport.run(question_calls.now()) / 1000
        took = time.perf_counter() - began
        seen.append((took, theirs - (wall + took / 2)))
    return statistics.median(took for took, _ in seen), min(seen)[1]
