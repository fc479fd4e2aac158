"""Runs Calls from plain code and threads.

Owns the resending of calls: which node, how often, and how long. Connections are in `sync_pool`. Safe to
share between threads; after a fork the child starts without connections.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from redis import exceptions as lib

from streamq.calls.call import AnyCall, Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.base import BaseTransport
from streamq.transport.budget import Budget
from streamq.transport.faults import more_specific, naming_rights, outcome_error, redirect_loop
from streamq.transport.server import ServerInfo
from streamq.transport.sync_connect import run_discovery
from streamq.transport.sync_link import SyncLink
from streamq.transport.sync_pool import SyncPool, close_idle
from streamq.transport.topology import MOST_HOPS, Node, Redirect

R = TypeVar("R")


class SyncTransport(BaseTransport):
    """Runs calls on the servers behind an address. patience: seconds to try while a server is unreachable."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        super().__init__(address, patience)
        self._pool = SyncPool(self._topology, self.reply_timeout)
        self._send = self._pool.send  # looked up with every call
        self._lock = threading.Lock()
        self._discovering = threading.Lock()
        # A transport that nobody closes leaves no open socket, of which the collector would warn.
        weakref.finalize(self, close_idle, self._topology).atexit = False

    @property
    def info(self) -> ServerInfo | None:
        """The server that was connected to last."""
        return self._pool.info

    def run(self, call: Call[R], *, patience: float | None = None) -> R:
        """Run a call, again while the server is unreachable; a call that is sent twice has the effect of one.

        No wait in it outlasts the patience; with none there is one try. Raises RedisUnavailable if the
        patience was over before the call could be sent, OutcomeUnknown if it was sent and got no reply unless
        it is a question, and other RedisErrors as the server replies them.
        """
        patience = self._patience if patience is None else patience
        budget = Budget(patience, self.reply_timeout)
        try:
            return self._attempt(call, budget)
        except RedisUnavailable as error:
            return self._persist(call, budget, error)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    def run_on_all_nodes(self, call: Call[R]) -> dict[str, R]:
        """Run a call once on every node that holds data; return the results by address. For what each server
        knows of itself. No wait in it outlasts the patience."""
        budget = Budget(self._patience, self.reply_timeout)
        return {node.shown: call.parse(self._ask(node, call, budget)) for node in self._nodes(budget)}

    def run_on_reachable_nodes(self, call: Call[R]) -> dict[str, R]:
        """Run a call as `run_on_all_nodes`, without the nodes that are unreachable. Raises RedisUnavailable
        if all are."""
        budget = Budget(self._patience, self.reply_timeout)
        found: dict[str, R] = {}
        for node in self._nodes(budget):
            with suppress(RedisUnavailable):
                found[node.shown] = call.parse(self._ask(node, call, budget))
        if not found:
            raise RedisUnavailable(f"no server at {self.address} answers")
        return found

    def run_on_node(self, shown: str, call: Call[R]) -> R:
        """Run a call on one of the nodes that `run_on_all_nodes` named, within the patience. Raises
        RedisErrors; RedisUnavailable if it no longer holds data."""
        node = self._named(shown)
        return call.parse(self._ask(node, call, Budget(self._patience, self.reply_timeout)))

    def _nodes(self, budget: Budget) -> list[Node]:
        self.discover(None, budget)
        return self._serving()

    def _ask(self, node: Node, call: Call[R], budget: Budget) -> object:
        budget.begin_try()
        try:
            return self._send(node, call, budget)
        except (lib.RedisError, OSError) as error:
            self.handle_failure(node, error)
            raise self._refused_at(node, error) from None

    def _persist(self, call: Call[R], budget: Budget, error: RedisError) -> R:
        try:
            for pause in budget.pauses():
                time.sleep(pause)
                budget.begin_try()
                try:
                    return self._attempt(call, budget)
                except RedisUnavailable as again:
                    error = more_specific(error, again)
                except RedisError as refusal:
                    error = refusal
                    break
            raise outcome_error(error, budget, call).with_traceback(None) from None
        finally:
            del error  # otherwise it would keep this frame alive, and the frame the transport

    def _attempt(self, call: Call[R], budget: Budget) -> R:
        """Send the call to its node, and on to the nodes that it is redirected to."""
        node, asking = self._topology.find(call) or self.discover(call, budget), False
        for _ in range(MOST_HOPS):
            permits = node.limit or self._new_limit(node)
            try:
                permits.get_nowait()
            except Empty:
                self._wait(permits, node, budget)
            try:
                reply = self._send(node, call, budget, asking)
            except (lib.RedisError, OSError) as error:
                redirect = self.handle_failure(node, error)
                if redirect is None:
                    raise self._translated(node, error) from None
                node, asking = redirect
            else:
                return call.parse(reply)
            finally:
                permits.put(None)
        raise redirect_loop(node.shown)

    def _new_limit(self, node: Node) -> SimpleQueue[None]:
        """Limit the connections to a node: a thread takes one of the permits before it uses one. A semaphore
        does the same, in Python instead of C."""
        permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(wire.MAX_CONNECTIONS):
            permits.put(None)
        with self._lock:
            if node.limit is None:
                node.limit = permits
        found: SimpleQueue[None] = node.limit
        return found

    def _wait(self, permits: SimpleQueue[None], node: Node, budget: Budget) -> None:
        """Wait for a permit as long as the call has time; then begin its try."""
        try:
            permits.get(timeout=budget.left(whole=True))
        except (Empty, lib.TimeoutError):
            raise self._translated(node, lib.TimeoutError(wire.ALL_BUSY)) from None
        budget.begin_try()

    def handle_failure(self, node: Node, error: Exception) -> Redirect | None:
        """Note what an error says about the nodes; return where it redirects the call."""
        redirect, drop = self._judge(node, error)
        if drop:
            self._pool.drop(node)
        return redirect

    def discover(self, call: AnyCall | None, budget: Budget | None = None) -> Node:
        """Discover the node for a call; one thread asks the servers, the others wait for it."""
        budget = Budget(0, self.reply_timeout) if budget is None else budget
        try:
            if not self._discovering.acquire(timeout=budget.left()):
                raise lib.TimeoutError("another thread is still discovering the nodes")
            try:
                node = self._topology.find(call)
                if node is not None:
                    return node
                node = run_discovery(self._topology.discover(call), budget)
            finally:
                self._discovering.release()
        except (lib.RedisError, OSError) as error:
            raise self._undiscovered(error) from None
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                self._pool.drop(other)
        return node

    def open(self, node: Node, budget: Budget | None = None) -> SyncLink:
        """Return a new connection of its own to a node. Raises the client library's errors."""
        return self._pool.open(node, Budget(0, self.reply_timeout) if budget is None else budget)

    def forget(self) -> None:
        """Start anew after a fork, without touching the sockets: they are the parent's."""
        self._lock, self._discovering = threading.Lock(), threading.Lock()
        for node in self._topology.nodes():
            node.idle, node.limit = [], None

    def close(self) -> None:
        """Close the idle connections."""
        close_idle(self._topology)
