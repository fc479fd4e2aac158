"""Runs Calls from an event loop.

Owns the resending of calls: which node, how often, and how long. Connections are in `async_pool`. A read is
never cancelled half way: after its caller was cancelled the exchange finishes by itself, since a reply that
nobody reads would lose its tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Coroutine
from typing import TypeVar

from redis import exceptions as lib

from streamq.calls.call import AnyCall, Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.async_connect import run_discovery
from streamq.transport.async_pool import AsyncPool
from streamq.transport.base import BaseTransport
from streamq.transport.budget import Budget
from streamq.transport.faults import more_specific, naming_rights, outcome_error, redirect_loop
from streamq.transport.limit import ConnectionLimit
from streamq.transport.link import Link
from streamq.transport.server import ServerInfo
from streamq.transport.topology import MOST_HOPS, Node, Redirect

R = TypeVar("R")


class AsyncTransport(BaseTransport):
    """Runs calls on the servers behind an address, in one event loop. patience: seconds to try while a server
    is unreachable. unanswered_at: when a discovery last ended without a reply of any server (monotonic)."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        super().__init__(address, patience)
        self._pool = AsyncPool(self._topology, self.reply_timeout)
        self._send = self._pool.send  # looked up with every call
        self._discovering = asyncio.Lock()
        self._discoveries = 0
        self._unanswered: lib.ConnectionError | None = None
        self.unanswered_at: float = -math.inf
        self._spawned: set[asyncio.Task[object]] = set()

    @property
    def info(self) -> ServerInfo | None:
        """The server that was connected to last."""
        return self._pool.info

    async def run(
        self,
        call: Call[R],
        *,
        patience: float | None = None,
        incarnation: str | None = None,
        fail_unsent: bool = False,
    ) -> R:
        """Run a call as SyncTransport.run does.

        incarnation: the one that the call is meant for; raises ServerChanged if the server is another.
        fail_unsent: raise RedisUnavailable at once if the first try was not sent, for callers that may change
        what they send before the next.
        """
        patience = self._patience if patience is None else patience
        budget = Budget(patience, self.reply_timeout)
        try:
            return await self._attempt(call, budget, incarnation)
        except RedisUnavailable as error:
            if fail_unsent and not budget:
                raise
            return await self._persist(call, budget, error, incarnation)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    async def _persist(self, call: Call[R], budget: Budget, error: RedisError, incarnation: str | None) -> R:
        try:
            for pause in budget.pauses():
                await asyncio.sleep(pause)
                budget.begin_try()
                try:
                    return await self._attempt(call, budget, incarnation)
                except RedisUnavailable as again:
                    error = more_specific(error, again)
                except RedisError as refusal:
                    error = refusal
                    break
            raise outcome_error(error, budget, call).with_traceback(None) from None
        finally:
            del error  # otherwise it would keep this frame alive, and the frame the transport

    async def wait_connected(self, call: AnyCall, *, patience: float) -> None:
        """Return when there is a connection on which the call could be sent at once. Sends nothing. Raises
        RedisErrors."""
        node = self._topology.find(call)
        if node is not None and any(link.usable() for link in node.idle):
            return
        budget = Budget(patience, self.reply_timeout)
        error: RedisError = RedisUnavailable("")
        try:
            for pause in itertools.chain((0.0,), budget.pauses()):
                await asyncio.sleep(pause)
                budget.begin_try()
                try:
                    await self._connect_for(call, budget)
                except RedisUnavailable as again:
                    error = more_specific(error, again)
                else:
                    return
            raise error.with_traceback(None) from None
        finally:
            del error

    async def _connect_for(self, call: AnyCall, budget: Budget) -> None:
        node = self._topology.find(call) or await self.discover(call, budget)
        try:
            await self._pool.keep(node, await self._pool.open(node, budget))
        except (lib.RedisError, OSError) as error:
            await self.handle_failure(node, error)
            raise self._translated(node, error) from None

    async def _attempt(self, call: Call[R], budget: Budget, incarnation: str | None) -> R:
        """Send the call to its node, and on to the nodes that it is redirected to."""
        node, asking = self._topology.find(call) or await self.discover(call, budget), False
        for _ in range(MOST_HOPS):
            limit: ConnectionLimit | None = node.limit
            if limit is None:
                limit = node.limit = ConnectionLimit(wire.MAX_CONNECTIONS)
            if limit.free > 0:
                limit.free -= 1
            else:
                await self._wait(limit, node, budget)
            try:
                try:
                    reply = await self._send(node, call, budget, asking, incarnation)
                finally:
                    limit.release()
            except (lib.RedisError, OSError) as error:
                redirect = await self.handle_failure(node, error)
                if redirect is None:
                    raise self._translated(node, error) from None
                node, asking = redirect
            else:
                return call.parse(reply)
        raise redirect_loop(node.shown)

    async def _wait(self, limit: ConnectionLimit, node: Node, budget: Budget) -> None:
        """Wait for a permit as long as the call has time; then begin its try."""
        try:
            await limit.wait(budget.left(whole=True))
        except (TimeoutError, lib.TimeoutError):
            raise self._translated(node, lib.TimeoutError(wire.ALL_BUSY)) from None
        budget.begin_try()

    async def handle_failure(self, node: Node, error: Exception) -> Redirect | None:
        """Note what an error says about the nodes; return where it redirects the call."""
        redirect, drop = self._judge(node, error)
        if drop:
            await self._pool.drop(node)
        return redirect

    async def discover(self, call: AnyCall | None, budget: Budget | None = None) -> Node:
        """Discover the node for a call; one task asks the servers, the others wait for it. If no server
        replied to that task, the others fail with it and do not ask again."""
        budget = Budget(0, self.reply_timeout) if budget is None else budget
        before = self._discoveries
        try:
            async with asyncio.timeout(budget.left()), self._discovering:
                node = self._topology.find(call)
                if node is not None:
                    return node
                if self._unanswered is not None and self._discoveries != before:
                    raise self._undiscovered(self._unanswered)
                node = await self._discover(call, budget)
        except (TimeoutError, lib.TimeoutError) as error:
            raise self._undiscovered(error) from None
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                await self._pool.drop(other)
        return node

    async def _discover(self, call: AnyCall | None, budget: Budget) -> Node:
        self._unanswered = None
        try:
            return await run_discovery(self._topology.discover(call), budget)
        except (lib.RedisError, OSError) as error:
            if isinstance(error, lib.ConnectionError):
                self._unanswered, self.unanswered_at = error, time.monotonic()
            raise self._undiscovered(error) from None
        finally:
            self._discoveries += 1

    async def run_once(self, node: Node, call: Call[R]) -> R:
        """Run a call on a node, with one try. Raises RedisErrors."""
        try:
            return call.parse(await self._send(node, call, Budget(0, self.reply_timeout)))
        except (lib.RedisError, OSError) as error:
            await self.handle_failure(node, error)
            raise self._translated(node, error) from None

    async def run_on_all_nodes(self, call: Call[R]) -> dict[str, R]:
        """Run a call as SyncTransport.run_on_all_nodes."""
        budget = Budget(self._patience, self.reply_timeout)
        await self.discover(None, budget)
        return {node.shown: call.parse(await self._ask(node, call, budget)) for node in self._serving()}

    async def run_on_node(self, shown: str, call: Call[R]) -> R:
        """Run a call as SyncTransport.run_on_node."""
        node = self._named(shown)
        return call.parse(await self._ask(node, call, Budget(self._patience, self.reply_timeout)))

    async def _ask(self, node: Node, call: AnyCall, budget: Budget) -> object:
        """Send a call to a node, on one of its permitted connections."""
        budget.begin_try()
        limit: ConnectionLimit = node.limit or ConnectionLimit(wire.MAX_CONNECTIONS)
        node.limit = limit
        if limit.free > 0:
            limit.free -= 1
        else:
            await self._wait(limit, node, budget)
        try:
            return await self._send(node, call, budget)
        except (lib.RedisError, OSError) as error:
            await self.handle_failure(node, error)
            raise self._refused_at(node, error) from None
        finally:
            limit.release()

    def spawn(self, coroutine: Coroutine[object, object, R]) -> asyncio.Task[R]:
        """Start a task, and keep it alive until it is done."""
        task = asyncio.ensure_future(coroutine)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def open(self, node: Node, budget: Budget | None = None) -> Link:
        """Return a new connection of its own to a node. Raises the client library's errors."""
        return await self._pool.open(node, Budget(0, self.reply_timeout) if budget is None else budget)

    def abandon(self) -> None:
        """Close idle connections after the event loop was closed, which can no longer do it."""
        self._pool.abandon()

    async def wait_spawned(self, seconds: float = 1.0) -> None:
        """Wait for the spawned tasks, at most so long: a loop that closes would warn of them as destroyed."""
        if self._spawned:
            await asyncio.wait(list(self._spawned), timeout=seconds)

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when they become idle."""
        await self._pool.aclose()
