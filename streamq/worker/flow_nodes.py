"""The part of a worker that lets flows go on after it has settled their nodes.

Owns the tasks of the event loop that do it. What a worker leaves undone, as it was killed or the server was
away, a daemon does: see `daemon.flow_keeper`. Must not know handlers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from streamq.errors import DecodeError, RedisError
from streamq.flow import adrive
from streamq.flows import needs
from streamq.flows.advancing import advance
from streamq.flows.inputs import payload_of
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import Cancelled, Completed, Died, Expired, Outcome
from streamq.telemetry import logs
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import Held

_ENDS: Final[dict[type, str]] = {Completed: "c", Died: "d", Cancelled: "x", Expired: "e"}
"""How an outcome stands in the inbox."""
_Flow = tuple[int, str]


class FlowNodes:
    """Advances flows, several at a time, each by one task of the event loop."""

    def __init__(self, config: WorkerConfig) -> None:
        self._app: str = config.registry.name
        self._config = config
        self._rows: dict[_Flow, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = logs.get_logger(worker=config.name)

    async def payload(self, delivery: Delivery) -> bytes:
        """Return the payload of a node's task, with what it needs of others. Raises DecodeError and
        RedisErrors."""
        return await adrive(self._config.transport, payload_of(self._app, delivery))

    def settled(self, ended: Iterable[tuple[Held, Outcome]]) -> None:
        """Advance the flows of these nodes, now that their ends are stored."""
        for held, outcome in ended:
            if held.delivery.node and (how := _ENDS.get(type(outcome))):
                self._put(held, how)

    def _put(self, held: Held, how: str) -> None:
        try:
            node = needs.read(held.delivery.node)
        except DecodeError:
            return
        key = held.delivery.shard, node.flow
        waiting = self._rows.get(key)
        if waiting is not None:
            waiting.append(f"{node.number} {how}")
            return
        self._rows[key] = [f"{node.number} {how}"]
        task = asyncio.get_running_loop().create_task(self._advance(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _advance(self, key: _Flow) -> None:
        """Advance a flow as long as more of its nodes end."""
        shard, flow = key
        try:
            while rows := self._rows[key]:
                self._rows[key] = []
                steps = advance(
                    shard_keys(self._app, shard), flow, rows, pipeline=self._config.registry.pipeline
                )
                await adrive(self._config.transport, steps, patience=0)
        except RedisError as error:
            self._log.warning("flow.not_advanced", flow=flow, shard=shard, error=str(error))
        finally:
            del self._rows[key]

    async def ended(self) -> None:
        """Wait until everything is done that was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
