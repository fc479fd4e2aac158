"""What a producer sends: an endless list of orders, drawn from its seed. Pure.

Owns the mixture of task types, conducts and options.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import Unique
from tests.chaos import promises, tasks
from tests.chaos.blob_rules import filler
from tests.chaos.featured import KNOWN, TYPES
from tests.chaos.promises import CONFLICTS, LANES, PROMISES, Promise
from tests.chaos.tasks import CONDUCTS, OVERRUN

WEIGHTS: Final = tasks.WEIGHTS | (promises.WEIGHTS if KNOWN else {})
SIMPLE: Final = {"ok": 80, "slow": 10, "fail1": 10}
"""How tasks with a key behave: a task may get the arguments of another call, and so its conduct."""

DURABLE: Final = {"ok": 70, "slow": 10, "fail1": 12, "fail": 4, "crash1": 4}
"""How tasks with steps or follow-ups behave."""

CONDUCTS_ONLY: Final = "STREAMQ_CHAOS_CONDUCTS"
"""The environment variable that names the conducts to draw from, where not all."""


@dataclass(frozen=True, slots=True)
class Order:
    """One task to be enqueued: `key` is its name in the history, unique over all producers.

    about: its lane, or its lock; conflict: what it asks for where that lock is held.
    """

    key: str
    type: str
    conduct: str
    options: dict[str, Any]
    about: dict[str, str] = field(default_factory=dict[str, str])
    conflict: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        more = {"filler": filler(self.key)} if self.type == "bulky" else {}
        return {"key": self.key, "conduct": self.conduct, **more, **self.about}

    @property
    def noted(self) -> dict[str, Any]:
        """What the history is told."""
        more = {"conflict": self.conflict} if self.conflict else {}
        return (
            {"key": self.key, "type": self.type, "conduct": self.conduct} | self.about | self.options | more
        )

    @property
    def given(self) -> dict[str, Any]:
        """The options of the call."""
        if not self.conflict:
            return self.options
        conflict: Any = self.conflict
        lock = Unique(by=("lock",), until=PROMISES[self.type].lock, on_conflict=conflict)
        return self.options | {"unique": lock}

    def bound(self) -> Any:
        return TYPES[self.type].options(**self.given).bind(**self.arguments)


def orders(name: str, seed: int) -> Iterator[Order]:
    """The orders of a producer."""
    rng = random.Random(f"{seed}-{name}")
    weights = {name: weight for name, weight in WEIGHTS.items() if name in TYPES}
    types, conducts = list(weights), _conducts()
    number = 0
    while True:
        number += 1
        kind = rng.choices(types, list(weights.values()))[0]
        conduct = rng.choices(list(conducts), list(conducts.values()))[0]
        if kind == "image" and conduct in ("slow", "overrun"):
            conduct = "ok"  # there are few processes
        options = _options(rng, conduct)
        if kind in ("stepping", "parent", "outer", "onward"):
            conduct = rng.choices(list(DURABLE), list(DURABLE.values()))[0]
            yield Order(f"{name}-{number}", kind, conduct, {})
        elif kind in PROMISES:
            yield _featured(rng, f"{name}-{number}", kind, conduct, options)
        else:
            yield Order(f"{name}-{number}", kind, conduct, options)


def _featured(rng: random.Random, key: str, kind: str, conduct: str, options: dict[str, Any]) -> Order:
    promise, one = PROMISES[kind], f"{kind}{rng.randrange(LANES[kind])}"
    if promise.lock:
        conduct = rng.choices(list(SIMPLE), list(SIMPLE.values()))[0]
        options = {name: value for name, value in options.items() if name == "delay"}
        conflict = rng.choice(CONFLICTS[promise.lock])
        return Order(key, kind, conduct, options, {"lock": one}, conflict)
    if promise.halt and rng.random() < 0.06:
        conduct = "fail"
    return Order(key, kind, conduct, _in_lane(rng, promise, options), {"lane": one})


def _in_lane(rng: random.Random, promise: Promise, options: dict[str, Any]) -> dict[str, Any]:
    if promise.order:
        return {name: value for name, value in options.items() if name != "priority"}
    if promise.fair and rng.random() < 0.2:
        return options | {"cost": 3}
    return options


def _conducts() -> dict[str, int]:
    only = os.environ.get(CONDUCTS_ONLY, "").split(",")
    return {name: weight for name, weight in CONDUCTS.items() if only == [""] or name in only}


def _options(rng: random.Random, conduct: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    draw = rng.random()
    if draw < 0.15:
        options["priority"] = rng.choice(["high", "low"])
    if draw > 0.80:
        options["delay"] = rng.choice([0.05, 0.5, 1.5, 3.0])
    if rng.random() < 0.04:
        options["expires"] = rng.choice([0.01, 0.3, 5.0])
    if conduct == "overrun":
        options["timeout"] = OVERRUN
    return options
