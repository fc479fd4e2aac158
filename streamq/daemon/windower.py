"""Keeps the window of types whose lanes share fairly: how many of their tasks are in the streams at most.

Owns the arithmetic. The less is in the streams, the sooner a lane that comes has its turn; too little, and
workers wait. So it is the slots of the workers that live, and what they fetch ahead: a tenth of a second's
work. How fast they are shows only while tasks wait: an idle type keeps its window, or the first tasks of the
next burst would be let in a few at a time until the daemon looks again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import question as question_calls
from streamq.control.heartbeats import workers
from streamq.daemon.discovery import TYPES_AT_ONCE, Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors
from streamq.flow import adrive
from streamq.heartbeat import WorkerInfo
from streamq.keys import TypeKeys
from streamq.options.lane import Gate
from streamq.stored import count
from streamq.transport.async_transport import AsyncTransport

AHEAD: Final = 0.1
"""Seconds of work that workers are to have before them."""
ASSUMED: Final = 64
"""The window of a type that has none, in the scripts."""
NEAR: Final = 0.1
"""A window that differs by no more is left as it is."""


class Windower:
    """Writes the window of each fair type into its policy, in every shard."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery) -> None:
        self._transport = transport
        self._discovery = discovery
        self._seen: dict[TypeKeys, tuple[float, int, bool]] = {}

    async def round(self, faults: Faults) -> None:
        """Look at every type that has lanes. Nothing is asked of the others but whether they have."""
        laned: dict[str, list[TypeKeys]] = {}
        for types in self._discovery.batches(TYPES_AT_ONCE):
            with isolate_errors(faults, app=types[0].app, shard=types[0].shard):
                found = await self._transport.run(daemon_calls.next_promotion(types), patience=0)
                for keys, has_lanes in zip(types, found[1], strict=True):
                    if has_lanes:
                        laned.setdefault(keys.app, []).append(keys)
        for app, listed in laned.items():
            beats = await adrive(self._transport, workers(app))
            await for_each(listed, lambda keys, beats=beats: self._keep(keys, beats), faults)  # type: ignore[misc]

    async def _keep(self, keys: TypeKeys, beats: Iterable[WorkerInfo]) -> None:
        policy = await self._transport.run(question_calls.policy(keys), patience=0)
        if not Gate.parse(policy.get("gate", "")).fair:
            return
        rate, busy = await self._rate(keys)
        wanted = window(slots(beats, keys.type), rate)
        before = count(policy.get("window")) or ASSUMED
        if wanted and abs(wanted - before) > NEAR * before and (busy or wanted > before):
            await self._transport.run(lane_calls.set_window(keys, wanted), patience=0)

    async def _rate(self, keys: TypeKeys) -> tuple[float, bool]:
        """How many complete in a second, and whether tasks waited at both ends of that time."""
        counts = await self._transport.run(question_calls.counts(keys), patience=0)
        now, completed, waits = time.monotonic(), counts.counters.get("completed", 0), counts.parked > 0
        at, before, waited = self._seen.get(keys, (now, completed, False))
        self._seen[keys] = now, completed, waits
        return max(0, completed - before) / (now - at) if now > at else 0.0, waits and waited


def slots(beats: Iterable[WorkerInfo], task_type: str) -> int:
    """How many slots living workers have that serve a type."""
    return sum(
        one.details.get("concurrency", 0)
        for one in beats
        if one.alive and task_type in one.details.get("types", ()) and not one.details.get("draining")
    )


def window(live: int, rate: float) -> int:
    """How many may be in the streams; 0 where nobody works: then it stays as it is."""
    return live + max(1, round(rate * AHEAD)) if live else 0
