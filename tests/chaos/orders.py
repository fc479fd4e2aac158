"""What a producer sends: an endless list of orders, drawn from its seed. Pure.

Owns the mixture of task types, conducts and options.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.tasks import CONDUCTS, OVERRUN, TYPES, WEIGHTS

CONDUCTS_ONLY: Final = "STREAMQ_CHAOS_CONDUCTS"
"""The environment variable that names the conducts to draw from, where not all."""


@dataclass(frozen=True, slots=True)
class Order:
    """One task to be enqueued: `key` is its name in the history, unique over all producers."""

    key: str
    type: str
    conduct: str
    options: dict[str, Any]

    @property
    def arguments(self) -> dict[str, str]:
        return {"key": self.key, "conduct": self.conduct}

    def bound(self) -> Any:
        return TYPES[self.type].options(**self.options).bind(**self.arguments)


def orders(name: str, seed: int) -> Iterator[Order]:
    """The orders of a producer."""
    rng = random.Random(f"{seed}-{name}")
    types, conducts = list(WEIGHTS), _conducts()
    number = 0
    while True:
        number += 1
        kind = rng.choices(types, list(WEIGHTS.values()))[0]
        conduct = rng.choices(list(conducts), list(conducts.values()))[0]
        if kind == "image" and conduct in ("slow", "overrun"):
            conduct = "ok"  # there are few processes
        yield Order(f"{name}-{number}", kind, conduct, _options(rng, conduct))


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
