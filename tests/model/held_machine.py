"""Registrations and held rules against their twin, in any order: programs of this release with and without
rules, of older ones, and a daemon that puts into force what every process can obey.

The twin knows what the policy and the key `rules` hold after each call. There is no task but a row that is
parked, and a lane in `turns`: what a registration does to the others is in `tests.lua.test_lane_fuzz`.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

from streamq.calls import producer as producer_calls
from streamq.errors import InvalidOption
from streamq.options.unique_plan import Plan
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes_older import register_as_older

STEPS: Final = 60
GATES: Final = (Rules(lane_running=1), Rules(lane_running=2), Rules(fair=True), Rules(order=True))
UNIQUE: Final = Plan(("n",)).stored()
LOOKED_AT: Final = ("gate", "lane", "unique", "rich", "max_backlog", "sweep", "recount")
FEATURES: Final = ({"lanes", "unique"}, {"lanes"}, {"unique"}, set[str]())
BACKLOG: Final = "1000000000000000"


class HeldFuzz:
    """One run of the machine. AssertionError where the server and the twin differ."""

    def __init__(self, transport: SyncTransport, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shard = Shard(transport)
        self.policy: dict[str, str] = {}
        self.rules: dict[str, Any] = {}
        self.parked = self.turning = False

    def run(self) -> None:
        for _ in range(STEPS):
            self.chance.choice(
                [
                    self.register,
                    self.register,
                    self.older,
                    self.enforce,
                    self.park,
                    self.swept,
                    self.before_rules,
                ]
            )()
            self.compare()

    # -- what may happen -------------------------------------------------------------------------------------

    def register(self) -> None:
        told = self.wanted()
        lacking = self.chance.choice([None, *FEATURES])
        want = self.registered(dict(told), lacking)
        try:
            found: object = self.shard.run(
                producer_calls.register(self.shard.t, self.shard.s, "tests:email", told, lacking)
            )
        except InvalidOption:
            found = "waits"
        assert found == want, (told, lacking)

    def wanted(self) -> dict[str, str]:
        told = {"lease_ms": "5000"}
        if self.chance.random() < 0.7:
            told |= {"gate": self.chance.choice(GATES).gate(), "max_backlog": BACKLOG}
            if self.chance.random() < 0.8:
                told["lane"] = "customer"
        if self.chance.random() < 0.5:
            told |= {"rich": "1", "unique": UNIQUE, "max_backlog": BACKLOG}
        return told

    def older(self) -> None:
        self.shard.command("HSET", self.shard.t.policy, "words", "")  # so that there is a field to remove
        register_as_older(self.shard)
        self.policy.clear()

    def before_rules(self) -> None:
        """A release that knows unique keys and not the key `rules` registers the type."""
        told = {"rich": "1", "unique": UNIQUE, "max_backlog": BACKLOG}
        self.shard.command("HSET", self.shard.t.policy, *(part for pair in told.items() for part in pair))
        self.shard.command("DEL", self.shard.t.rules)
        self.policy |= told
        self.rules = {}

    def enforce(self) -> None:
        lacking = self.chance.choice(FEATURES)
        want = self.enforced(lacking)
        assert self.shard.run(producer_calls.enforce(self.shard.t, self.shard.s, lacking)) == want

    def park(self) -> None:
        """A row comes or goes, and a lane gets its turn."""
        self.parked, self.turning = not self.parked, True
        self.shard.command(
            *(("ZADD", self.shard.t.lanes, 0, "a\0row") if self.parked else ("DEL", self.shard.t.lanes))
        )
        self.shard.command("ZADD", self.shard.t.turns, 5, "a")

    def swept(self) -> None:
        """The daemon has brought a change to all lanes, and counted them."""
        self.shard.command("HDEL", self.shard.t.policy, "sweep", "recount")
        for name in ("sweep", "recount"):
            self.policy.pop(name, None)

    # -- what must come of it --------------------------------------------------------------------------------

    def known(self) -> tuple[dict[str, str], bool]:
        """The gate and lane that hold, and whether an older release has removed them from the policy."""
        if "gate" in self.policy:
            return self.policy, False
        return self.rules, "gate" in self.rules

    def registered(self, told: dict[str, str], lacking: set[str] | None) -> str | None:
        known, lost = self.known()
        before = known.get("gate")
        gate, held = told.get("gate"), dict[str, str]()
        ordered = gate == GATES[3].gate()
        if ordered and "lane" not in known and self.parked:
            return "waits"
        new_gate = gate is not None and before is None and not ordered
        new_unique = "unique" in told and "unique" not in self.policy and "unique" not in self.rules
        if lacking is None and (new_gate or new_unique):
            return None
        if new_gate and "lanes" in (lacking or ()):
            held = {name: told.pop(name) for name in ("gate", "lane") if name in told}
        if new_unique and "unique" in (lacking or ()):
            held["unique"] = told.pop("unique")
            del told["rich"]
        self.rules = {name: told[name] for name in ("gate", "lane", "unique") if name in told}
        if held:
            self.rules["held"] = held
        marks = {name: self.policy[name] for name in ("sweep", "recount") if name in self.policy}
        self.policy = {name: value for name, value in told.items() if name != "lease_ms"} | marks
        self._changed(before, told.get("gate"), lost=lost)
        return "tests:email"

    def _changed(self, before: str | None, now: str | None, *, lost: bool) -> None:
        if lost and now is not None:
            self.policy["recount"] = "1"
        if now != before or lost:
            fair = GATES[2].gate()
            self.turning = self.turning and (before == fair) == (now == fair)
            if self.parked:
                self.policy["sweep"] = ""

    def enforced(self, lacking: set[str]) -> int:
        held, begun = self.rules.get("held", {}), 0
        if "gate" in held and "lanes" not in lacking:
            of = {name: held.pop(name) for name in ("gate", "lane") if name in held}
            self.rules.pop("lane", None)
            self.rules |= of
            self.policy |= of
            begun += 1
            if self.parked:
                self.policy["sweep"] = ""
        if "unique" in held and "unique" not in lacking:
            self.rules["unique"] = held.pop("unique")
            begun += 1
        if not held:
            self.rules.pop("held", None)
        if "unique" in self.rules:
            self.policy |= {"rich": "1", "unique": self.rules["unique"]}
        if {"gate", "unique"} & self.rules.keys():
            self.policy.setdefault("max_backlog", BACKLOG)
        return begun

    def compare(self) -> None:
        t = self.shard.t
        values = self.shard.command("HMGET", t.policy, *LOOKED_AT)
        found = {
            name: value.decode() for name, value in zip(LOOKED_AT, values, strict=True) if value is not None
        }
        assert found == self.policy
        assert json.loads(self.shard.command("GET", t.rules) or b"{}") == self.rules
        assert self.shard.command("EXISTS", t.turns) == self.turning
