"""The part of a worker that lets flows go on after it has settled their nodes.

Owns the tasks of the event loop that do it. What a worker leaves undone, as it was killed or the server was
away, a daemon does: see `daemon.flow_keeper`. Must not know handlers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from streamq.calls import flows as flow_calls
from streamq.errors import DecodeError, RedisError
from streamq.flow import adrive
from streamq.flows import needs
from streamq.flows.advancing import Guesses, advance
from streamq.flows.inputs import payload_of
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.model.effect import Effect, NodeResult, Spawned
from streamq.model.outcome import Cancelled, Completed, Died, Expired, Outcome
from streamq.registry import growth
from streamq.registry.handler import Handler
from streamq.telemetry import logs
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import Held
from streamq.worker.shared_calls import SharedCalls

_ENDS: Final[dict[type, str]] = {Completed: "c", Died: "d", Cancelled: "x", Expired: "e"}
"""How an outcome stands in the inbox."""
LOOK: Final = 5.0
"""Seconds between two looks at what was left behind, and after which it was."""
INPUTS: Final = 50
STEPS: Final = 200
"""Calls in one round trip: for what nodes need, and that they have ended."""
PATIENCE: Final = 5.0
"""Seconds for which what a node needs is asked for."""
PAGE: Final = 100
_Flow = tuple[int, str]


def grown(handler: Handler, result: bytes, told: Sequence[object] | None) -> tuple[bytes, bytes]:
    """Return the result of a node, and the children that its handler has returned or spawned as they are
    stored behind it; '' for none. told: what the completion of its attempt is to write."""
    if handler.expands and result:
        return b"", result
    children = [one.child for one in told or () if isinstance(one, Spawned)]
    return result, growth.written(children) if children else b""


def of_node(delivery: Delivery, children: bytes, *, expanded: bool) -> tuple[Effect, ...]:
    """Return what the settlement of a flow's node does: the flow keeps its result, and its children."""
    try:
        node = needs.read(delivery.node)
    except DecodeError:
        return ()
    return (NodeResult(node.flow, node.number, len(children), expanded=expanded and children != b""),)


def _needs_lists(field: bytes) -> bool:
    """Return whether a node, by the field of its envelope, may need more than single results of others."""
    return b"[" in field or field.count(b"{") > 1


class FlowNodes:
    """Advances flows, several at a time, each by one task of the event loop."""

    def __init__(self, config: WorkerConfig) -> None:
        self._app: str = config.registry.name
        self._config = config
        self._rows: dict[_Flow, list[str]] = {}
        self._guesses = Guesses()
        self._inputs = SharedCalls(config.transport, INPUTS)
        self._steps = SharedCalls(config.transport, STEPS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = logs.get_logger(worker=config.name)

    async def payload(self, delivery: Delivery) -> bytes:
        """Return the payload of a node's task, with what it needs of others. Raises DecodeError and
        RedisErrors."""
        found = payload_of(self._app, delivery)
        if _needs_lists(delivery.node):  # they may be as large as all that others need
            return await adrive(self._config.transport, found)
        return await self._inputs.drive(delivery.shard, found, PATIENCE)

    def settled(self, held: Held, outcome: Outcome) -> None:
        """Advance the flow of this node, now that its end is stored."""
        if how := _ENDS.get(type(outcome)):
            self._put(held, "g" if any(getattr(one, "grown", 0) for one in held.effects) else how)

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
        task = asyncio.get_running_loop().create_task(self._advance(key, held.delivery.type))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _advance(self, key: _Flow, ended: str) -> None:
        """Advance a flow as long as more of its nodes end. ended: the type of the first of them."""
        shard, flow = key
        learn = partial(self._guesses.learn, ended)
        try:
            while rows := self._rows[key]:
                self._rows[key] = []
                steps = advance(
                    shard_keys(self._app, shard),
                    flow,
                    rows,
                    pipeline=self._config.registry.pipeline,
                    guess=self._guesses.after(ended),
                    learn=learn,
                )
                await self._steps.drive(shard, steps, 0.0)
        except Exception as error:  # noqa: BLE001 - what stands in Redis is input; a daemon tells of it
            self._log.warning("flow.not_advanced", flow=flow, shard=shard, error=str(error))
        finally:
            del self._rows[key]

    async def watch(self, shards: Callable[[], Iterable[int]]) -> None:
        """Take up what other workers left behind and a daemon cannot read: the lists of maps, where results
        are sealed."""
        while self._config.registry.pipeline is not None:
            await asyncio.sleep(LOOK * random.uniform(0.8, 1.2))
            for shard in list(shards()):
                with suppress(RedisError):
                    await self._left_behind(shard)

    async def _left_behind(self, shard: int) -> None:
        s, transport = shard_keys(self._app, shard), self._config.transport
        found = await transport.run(flow_calls.behind(s, round(LOOK * 1000), PAGE), patience=0)
        for flow in dict.fromkeys(one.flow for one in found.rows if one.what == "look"):
            steps = advance(s, flow, pipeline=self._config.registry.pipeline)
            await adrive(transport, steps, patience=0)

    async def ended(self) -> None:
        """Wait until everything is done that was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inputs.aclose()
        await self._steps.aclose()
