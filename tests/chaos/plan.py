"""Which fault happens when, to whom: drawn from the seed and nothing else. Pure.

Owns the kinds of faults and how often each is drawn. Targets are indexes: what they stand for is decided
when the fault is injected, since processes come and go.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Topology = Literal["single", "sentinel", "cluster"]
TOPOLOGIES: Final[tuple[Topology, ...]] = ("single", "sentinel", "cluster")

ANYWHERE: Final = {
    "worker_killed": 6,
    "worker_stopped": 4,
    "supervisor_killed": 1,
    "group_terminated": 3,
    "daemon_killed": 2,
    "daemon_stopped": 2,
    "producer_killed": 2,
    "producer_stopped": 2,
    "clients_killed": 4,
    "scripts_flushed": 3,
    "group_destroyed": 2,
    "consumer_deleted": 2,
    "clock_jumped": 2,
    "server_full": 2,
    "deploy": 3,
}
"""Kinds that any set of servers can take, with their weights in the draw."""

SINGLE: Final = {
    "server_killed": 3,
    "server_stopped": 1,
    "latency": 3,
    "reset": 4,
    "replies_dropped": 4,
    "black_hole": 2,
    "half_open": 2,
}
"""A server that comes back with its append-only file, and faults of the network between it and the rest."""

REPLICATED: Final = {"failover": 3}
"""Kinds that need somebody to take over."""

INTERVAL: Final = (0.4, 1.4)
"""Seconds between two faults; a fault may last longer than that, so they overlap."""


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at` seconds from the start, `kind` happens to number `target`; `amount` is a share, 0 to 1."""

    at: float
    kind: str
    target: int
    amount: float

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind:<18} target {self.target}  amount {self.amount:.2f}"


def kinds(topology: Topology) -> dict[str, int]:
    """What may happen to this set of servers."""
    return ANYWHERE | (SINGLE if topology == "single" else REPLICATED)


def draw(seed: int, seconds: float, topology: Topology, only: Sequence[str] = ()) -> list[Fault]:
    """The plan of a run. Every kind comes once, in random order, before any is drawn by weight."""
    rng = random.Random(seed)
    weights = {kind: weight for kind, weight in kinds(topology).items() if not only or kind in only}
    names = list(weights)
    first = rng.sample(names, len(names))
    plan: list[Fault] = []
    at = 1.0
    while at < seconds:
        kind = first.pop() if first else rng.choices(names, list(weights.values()))[0]
        plan.append(Fault(round(at, 3), kind, rng.randrange(100), rng.random()))
        at += rng.uniform(*INTERVAL)
    return plan
