"""A type with lanes in a shard, with tasks that asked to run."""

from __future__ import annotations

from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.model.task import NewTask
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard


def laned(shard: Shard, rules: Rules) -> None:
    """Give the type lanes: of `acme` and of `other` two tasks each ask to run."""
    for gate in (Rules(), rules):  # a type with tasks becomes ordered only if it had lanes
        policy = {"gate": gate.gate(), "lane": "customer", "max_backlog": "1000000000000000"}
        shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy))
    for lane in ("acme", "acme", "other", "other"):
        shard.enqueue(NewTask(b"{}", "normal", joins=f'{{"lane":"{lane}"}}'))
    shard.run(daemon_calls.promote(shard.t, 10, rich=True))
