"""The blocking reader of workers: a connection of its own, on the node that has its keys.

Owns where that connection leads. Never resends a read: one that may have been carried out is not
repeated, as what it brought would be lost; one that a node refused, because the keys are elsewhere now,
was not carried out and follows them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from redis import exceptions as lib

from streamq.calls.call import Call
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerError
from streamq.transport import wire
from streamq.transport.async_transport import AsyncTransport, circles, exchange
from streamq.transport.effort import Effort
from streamq.transport.faults import ServerChanged, translate
from streamq.transport.link import Link
from streamq.transport.topology import MOST_HOPS, Node

R = TypeVar("R")


class AsyncReader:
    """A connection of its own for reads that block. One reader, one task; stopped by `unblock`.

    All its calls are about keys of one shard. `incarnation` as in AsyncTransport.run.
    """

    def __init__(self, transport: AsyncTransport, *, blocks: bool = True) -> None:
        self._transport = transport
        self._node: Node | None = None
        self._link: Link | None = None
        self._client_id: int | None = None
        self._blocks = blocks  # else nobody will unblock it, and a producer may not ask for its id
        self._can_unblock = True

    async def run(
        self,
        call: Call[R],
        *,
        longest: float = 0.0,
        incarnation: str | None = None,
        effort: Effort | None = None,
    ) -> R:
        """Run one call that may block for `longest` seconds; no resending: a read is not repeated.
        effort: its time, of one that does not block.

        The wait is bounded by our own clock too: the server's BLOCK follows its wall clock.
        """
        node, asking = self._transport.find(call) or await self._transport.discovered(call, effort), False
        for _ in range(MOST_HOPS):
            try:
                link = await self._at(node, incarnation, effort)
                most = longest + wire.COMMAND_TIMEOUT
                timeout = most if effort is None else effort.left(most)
                return call.parse(await exchange(link, call, timeout, asking=asking))
            except (lib.RedisError, OSError) as error:
                redirect = await self._transport.turn(node, error)
                if redirect is None:
                    await self._failed(error)
                    raise translate(error, node.shown, self._transport.address.source) from None
                node, asking = redirect
            except ServerChanged:
                raise
            except BaseException:
                await self.aclose()
                raise
        raise circles(node)

    async def run_all(self, asked: list[Call[Any]], *, incarnation: str | None = None) -> list[Any]:
        """Run calls in one round trip. Answers for each its result, or the RedisError it ended with: what
        one of them brought is not lost because another failed."""
        node = self._transport.find(asked[0]) or await self._transport.discovered(asked[0])
        try:
            link = await self._at(node, incarnation)
            replies = await link.ask_all([wire.by_sha(call) for call in asked])
            return [await self._result(node, link, *pair) for pair in zip(asked, replies, strict=True)]
        except (lib.RedisError, OSError) as error:
            await self._transport.turn(node, error)
            await self._failed(error)
            raise translate(error, node.shown, self._transport.address.source) from None
        except ServerChanged:
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _result(self, node: Node, link: Link, call: Call[Any], reply: Any) -> Any:
        if isinstance(reply, lib.NoScriptError):
            reply = (await link.ask_all([wire.by_text(call)]))[0]
        if isinstance(reply, lib.ResponseError):
            # The next call goes where this one was sent to; it was not carried out.
            if await self._transport.turn(node, reply) is not None:
                return RedisUnavailable(f"{node.shown} is not ready: the keys have moved")
            return translate(reply, node.shown)
        if isinstance(reply, BaseException):
            raise reply
        return call.parse(reply)

    async def _at(self, node: Node, incarnation: str | None, effort: Effort | None = None) -> Link:
        """Our connection to this node; a new one where the incarnation is not that of the one we have."""
        link = self._link
        if (
            link is not None
            and self._node is node
            and incarnation in (None, link.incarnation)
            and link.usable()
        ):
            return link
        await self.aclose()
        self._link = link = await self._transport.open(node, effort)
        self._node, self._client_id = node, await self._id(link) if self._blocks else None
        if incarnation not in (None, link.incarnation):
            raise ServerChanged(link.incarnation)
        return link

    async def _id(self, link: Link) -> int | None:
        """By which the server knows the connection; None where it does not tell: a proxy, a user without the
        right to ask."""
        try:
            found: int = await link.ask("CLIENT", "ID")
        except lib.ResponseError:
            self._can_unblock = False
            return None
        return found

    async def _failed(self, error: Exception) -> None:
        """A connection is of no more use after an error that is not an answer."""
        if (
            not isinstance(error, lib.ResponseError)
            or self._node is None
            or not self._transport.serves(self._node)
        ):
            await self.aclose()

    @property
    def endable(self) -> bool:
        """Whether `unblock` can end a read; where it cannot, a read had better not block for long."""
        return self._can_unblock

    async def unblock(self) -> bool:
        """End a blocking read at once and in order: it answers that nothing came. False where the
        server has no blocked read of ours. Raises RedisErrors."""
        if self._client_id is None or self._node is None:
            return False
        command = ("CLIENT", "UNBLOCK", self._client_id, "TIMEOUT")
        try:
            return await self._transport.tell(self._node, Call(None, (), command, bool))
        except (AuthenticationFailed, ServerError):
            self._can_unblock = False
            raise

    async def aclose(self) -> None:
        link, self._link, self._client_id = self._link, None, None
        if link is not None:
            await link.aclose()
