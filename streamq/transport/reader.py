"""The blocking reader of workers: a connection of its own, to the node that has its keys.

Owns which node that connection leads to. Must not send a read again that may have been executed: what it
delivered would be lost. A read that a node redirected was not executed, and is sent to the other node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from redis import exceptions as lib

from streamq.calls.call import AnyCall, Call
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerError
from streamq.transport import wire
from streamq.transport.async_pool import exchange
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.budget import Budget
from streamq.transport.faults import ServerChanged, redirect_loop, translate
from streamq.transport.link import Link
from streamq.transport.topology import MOST_HOPS, Node

R = TypeVar("R")


class AsyncReader:
    """A connection of its own for reads that block, used by one task; `unblock` ends a read.

    All its calls are about keys of one shard. incarnation: as in AsyncTransport.run.
    """

    def __init__(self, transport: AsyncTransport, *, blocks: bool = True) -> None:
        self._transport = transport
        self._node: Node | None = None
        self._link: Link | None = None
        self._client_id: int | None = None
        self._blocks = blocks  # otherwise its id is not needed, for which a producer may not ask
        self._can_unblock = True

    async def run(
        self,
        call: Call[R],
        *,
        longest: float = 0.0,
        incarnation: str | None = None,
        budget: Budget | None = None,
    ) -> R:
        """Run one call that may block for `longest` seconds, with one try. budget: the time of a call that
        does not block.

        The wait is limited by the local clock too: the server's BLOCK follows its wall clock.
        """
        node, asking = self._transport.find(call) or await self._transport.discover(call, budget), False
        for _ in range(MOST_HOPS):
            try:
                link = await self._link_to(node, incarnation, budget)
                most = longest + wire.COMMAND_TIMEOUT
                timeout = most if budget is None else budget.left(most)
                return call.parse(await exchange(link, call, timeout, asking=asking))
            except (lib.RedisError, OSError) as error:
                redirect = await self._transport.handle_failure(node, error)
                if redirect is None:
                    await self._failed(error)
                    raise translate(error, node.shown, self._transport.address.source) from None
                node, asking = redirect
            except ServerChanged:
                raise
            except BaseException:
                await self.aclose()
                raise
        raise redirect_loop(node.shown)

    async def run_all(self, calls: Sequence[AnyCall], *, incarnation: str | None = None) -> list[object]:
        """Run calls in one round trip; return the result of each, or its RedisError: the result of one is not
        lost because another failed."""
        node = self._transport.find(calls[0]) or await self._transport.discover(calls[0])
        try:
            link = await self._link_to(node, incarnation)
            replies = await link.ask_all([wire.by_sha(call) for call in calls])
            return [await self._result(node, link, *pair) for pair in zip(calls, replies, strict=True)]
        except (lib.RedisError, OSError) as error:
            await self._transport.handle_failure(node, error)
            await self._failed(error)
            raise translate(error, node.shown, self._transport.address.source) from None
        except ServerChanged:
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _result(self, node: Node, link: Link, call: AnyCall, reply: object) -> object:
        if isinstance(reply, lib.NoScriptError):
            reply = (await link.ask_all([wire.by_text(call)]))[0]
        if isinstance(reply, lib.ResponseError):
            # It was not executed; the next call goes to the node that this one is redirected to.
            if await self._transport.handle_failure(node, reply) is not None:
                return RedisUnavailable(f"{node.shown} is not ready: the keys have moved")
            return translate(reply, node.shown)
        if isinstance(reply, BaseException):
            raise reply
        return call.parse(reply)

    async def _link_to(self, node: Node, incarnation: str | None, budget: Budget | None = None) -> Link:
        """Return the connection to this node; a new one if the current one is to another incarnation."""
        link = self._link
        if (
            link is not None
            and self._node is node
            and incarnation in (None, link.incarnation)
            and link.usable()
        ):
            return link
        await self.aclose()
        self._link = link = await self._transport.open(node, budget)
        self._node, self._client_id = node, await self._id(link) if self._blocks else None
        if incarnation not in (None, link.incarnation):
            raise ServerChanged(link.incarnation)
        return link

    async def _id(self, link: Link) -> int | None:
        """Return the server's id of the connection; None if a proxy, or missing rights, keep it from us."""
        try:
            found = await link.ask("CLIENT", "ID")
        except lib.ResponseError:
            self._can_unblock = False
            return None
        return found if isinstance(found, int) else None

    async def _failed(self, error: Exception) -> None:
        """Close the connection after any error that is not an error reply."""
        if (
            not isinstance(error, lib.ResponseError)
            or self._node is None
            or not self._transport.serves(self._node)
        ):
            await self.aclose()

    @property
    def can_unblock(self) -> bool:
        """Whether `unblock` can end a read; if not, a read should not block for long."""
        return self._can_unblock

    async def unblock(self) -> bool:
        """End a blocking read at once and in order: it returns as if nothing arrived. Return False if no read
        of this reader is blocked. Raises RedisErrors."""
        if self._client_id is None or self._node is None:
            return False
        command = ("CLIENT", "UNBLOCK", self._client_id, "TIMEOUT")
        try:
            return await self._transport.run_once(self._node, Call(None, (), command, bool))
        except (AuthenticationFailed, ServerError):
            self._can_unblock = False
            raise

    async def aclose(self) -> None:
        """Close the connection."""
        link, self._link, self._client_id = self._link, None, None
        if link is not None:
            await link.aclose()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed."""
        link, self._link, self._client_id = self._link, None, None
        if link is not None:
            link.abandon()
