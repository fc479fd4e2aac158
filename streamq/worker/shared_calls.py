"""Calls of many nodes of flows, sent in few round trips.

Owns a connection to each shard. What comes while a round trip is in flight is sent together in the next. Must
be given only calls that change nothing the second time: one without an answer is sent again.
"""

from __future__ import annotations

from typing import Any, TypeVar

from streamq.errors import ServerError
from streamq.flow import Ask, Flow, adrive_by
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.batching import QuestionBatcher
from streamq.transport.faults import naming_rights

R = TypeVar("R")


class SharedCalls:
    """The calls of one worker. most: in one round trip."""

    def __init__(self, transport: AsyncTransport, most: int) -> None:
        self._transport, self._most = transport, most
        self._batchers: dict[int, QuestionBatcher] = {}

    async def drive(self, shard: int, flow: Flow[R], patience: float) -> R:
        """Carry out a flow that only asks about keys of one shard. patience: seconds for which each of its
        calls is tried. Raises what the flow raises."""
        batcher = self._batchers.get(shard)
        if batcher is None:
            batcher = self._batchers[shard] = QuestionBatcher(self._transport, self._most)

        async def carry(step: Ask) -> Any:
            try:
                [answer] = await batcher.ask([step.call], patience)
            except ServerError as error:
                raise naming_rights(error, self._transport.address.namespace.rights) from None
            return answer

        return await adrive_by(carry, flow)

    async def aclose(self) -> None:
        """Close the connections."""
        for batcher in self._batchers.values():
            await batcher.aclose()
