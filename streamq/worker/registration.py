"""Registers a worker in Redis: its app, its types and their groups in every shard; and deregisters it.

Owns those calls. Must not take a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from streamq import registering
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.control import lane_homes
from streamq.control.unreadable import is_data_fault
from streamq.doctor import needs
from streamq.doctor.samples import sample
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.flow import adrive
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.registry.redefinition import importable, moved
from streamq.registry.registry import Registry
from streamq.shards import AppRecord
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server import warn_of_eviction
from streamq.transport.server_wait import unless_stopped, wait_at_start
from streamq.worker.in_flight import chunks

START_PATIENCE: Final = 10.0
START_RETRY: Final = 0.5
"""Seconds after which a start that an outage interrupted is tried again."""
LEAVE_PATIENCE: Final = 1.0
AT_ONCE: Final = 1000
"""The most streams in one script: it blocks the server."""
LEAVE_TIMEOUT: Final = 3.0
"""Seconds to deregister. If that fails, the daemon removes the worker's consumers later."""


class Registration:
    """The registration of one worker process, which serves these types."""

    def __init__(self, transport: AsyncTransport, registry: Registry, types: list[str], worker: str) -> None:
        self._transport = transport
        self._registry, self._types = registry, types
        self._worker = worker
        self._log = logs.get_logger(worker=worker)

    async def announce(self, stop: asyncio.Event) -> AppRecord | None:
        """Wait for the server, check it, and register the app, its types and their groups in every shard.
        Return None if the worker is stopped meanwhile. Raise RedisError if the server refuses the worker."""
        while await wait_at_start(self._transport, self._log, stop=stop):
            try:
                return await unless_stopped(stop, self._announce())
            except RedisUnavailable as error:
                self._log.warning("redis.unavailable", doing="start", error=str(error))
                await asyncio.sleep(START_RETRY)
        return None

    async def _announce(self) -> AppRecord:
        await self._check_rights(0)
        record: AppRecord | None = None
        announce = producer_calls.announce(self._registry.name, self._registry.shards)
        with self._tolerate_bad_data(announce.keys, "the number of shards is the one in the app's code"):
            record = await self._transport.run(announce)
        if record is None:
            record = AppRecord(self._registry.shards, self._registry.shards)
        for shard in range(record.known):
            if shard > 0:
                await self._check_rights(shard)
            await self._register_all(shard)
        await self._warn_of_strayed(record)
        await self._declare()
        # Check the right to read: without it the worker would be ready but fetch nothing.
        first = type_keys(self._registry.name, 0, self._types[0])
        with self._tolerate_bad_data((first.normal,), "the other streams are served"):
            await self._transport.run(worker_calls.may_read(first, self._worker))
        warn_of_eviction(self._transport.servers(), self._log)
        return record

    async def _check_rights(self, shard: int) -> None:
        """Raise AuthenticationFailed if the Redis user lacks a right that a worker needs, or ServerError if
        the server lacks the command. Without this check that would only show when an outcome cannot be
        stored."""
        app, first = self._registry.name, self._types[0]
        commands = {" ".join(sample(name, app, shard, first)): name for name in needs.essential()}
        try:
            refused = await self._transport.run(
                worker_calls.rights(type_keys(app, shard, first), list(commands))
            )
        except ServerError:
            return  # the server cannot check rights
        if missing := dict.fromkeys(one.split()[0][1:] for one in refused if one.startswith("?")):
            raise ServerError(
                f"{self._transport.address} cannot run the tasks of app {app!r}: it does not have "
                f"{', '.join(missing)}: renamed or disabled there, or rejected by a proxy in between. "
                "Connect to the server itself, and take rename-command out of its configuration"
            )
        if refused:
            lacking = dict.fromkeys(needs.command_of(commands[one]) for one in refused)
            grants = " ".join(f"+{one.lower().replace(' ', '|')}" for one in lacking)
            raise AuthenticationFailed(
                f"{self._transport.address} does not let this user run the tasks of app {app!r}: no right to "
                f"{', '.join(lacking)} on its keys. Grant it with ACL SETUSER <user> {grants}; `streamq "
                "doctor` lists all required rights"
            )

    async def prepare(self, shard: int, details: bytes) -> frozenset[str]:
        """Prepare a shard for reading. Return the types that are paused, there or in all shards.

        The first heartbeat is sent before the first fetch: it announces the lease of the deliveries.
        """
        await self._register_all(shard)
        beat = worker_calls.beat(shard_keys(self._registry.name, shard), self._worker, details)
        with self._tolerate_bad_data(beat.keys, "this worker is not listed as alive"):
            await self._transport.run(beat, patience=START_PATIENCE)
        paused: frozenset[str] = frozenset()
        for n in {0, shard}:
            call = worker_calls.orders(shard_keys(self._registry.name, n), self._worker)
            with self._tolerate_bad_data(call.keys, "no type counts as paused there"):
                paused |= (await self._transport.run(call, patience=START_PATIENCE)).paused
        return paused

    async def _register_all(self, shard: int) -> None:
        keys = [type_keys(self._registry.name, shard, name) for name in self._types]
        for one in keys:
            damaged = (one.policy, shard_keys(one.app, shard).types)
            with self._tolerate_bad_data(damaged, "the type is served by the policy in its code"):
                await self._register(one, shard)
        for streams in chunks([stream for one in keys for stream in one.streams], AT_ONCE):
            with self._tolerate_bad_data((), "the other streams are served"):
                await self._transport.run(worker_calls.groups(streams))

    async def _register(self, keys: TypeKeys, shard: int) -> None:
        handler = self._registry.handlers[keys.type]
        now = importable(handler.reference)
        policy = handler.options.policy()
        if keys.type != handler.name:
            policy["alias_of"] = handler.name
        register = registering.register(keys, shard_keys(self._registry.name, shard), now, policy)
        before = await adrive(self._transport, register)
        if before and moved(before, now) and keys.type == handler.name:
            self._log.warning(
                "type.handler_changed",
                type=keys.type,
                before=before,
                now=now,
                fix="none if the function was moved or renamed. If both are in use, they take each other's "
                "tasks: rename one with @app.task(name=...), or rename its app",
            )

    async def _warn_of_strayed(self, record: AppRecord) -> None:
        """Say that lanes have older tasks in another shard than their new ones."""
        laned = [name for name in self._types if self._registry.handlers[name].options.gated]
        for name in laned if record.known > 1 else []:
            found: list[int] = []
            with self._tolerate_bad_data((), "lanes are served as they are"):
                found = await adrive(
                    self._transport,
                    lane_homes.strayed(self._registry.name, name, record.shards, record.known),
                )
            if found:
                consequence = lane_homes.CONSEQUENCE
                self._log.warning(
                    "lanes.strayed", type=name, shards=found, consequence=consequence, fix=lane_homes.FIX
                )

    async def _declare(self) -> None:
        """Register the schedules of our types' code."""
        names = self._registry.declared(self._types)
        if not names:
            return
        from streamq.control.schedules import declared  # noqa: PLC0415 - most workers have none

        handlers = [self._registry.handlers[name] for name in names]
        key = shard_keys(self._registry.name, 0).schedules
        with self._tolerate_bad_data((key,), "the schedules of this code are not registered"):
            await adrive(self._transport, declared(self._registry.name, self._registry.shards, handlers))

    @contextmanager
    def _tolerate_bad_data(self, keys: Sequence[str], consequence: str) -> Generator[None]:
        """Log an error that is caused by a key of the wrong kind, and continue: it must not keep the worker
        from serving the rest. Raise RedisErrors with other causes."""
        try:
            yield
        except RedisError as error:
            if not is_data_fault(error):
                raise
            fix = f"find the key with streamq audit and rename it; until then, {consequence}"
            self._log.error("stored.unreadable", keys=list(keys), error=str(error), fix=fix)

    async def leave(self, shard: int, *, unreachable: bool) -> None:
        """Deregister from a shard. If its server is known to be unreachable, try only once."""
        keys = [type_keys(self._registry.name, shard, name) for name in self._types]
        streams = [stream for one in keys for stream in one.streams]
        keys_ = shard_keys(self._registry.name, shard)
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                for part in chunks(streams, AT_ONCE):
                    call = worker_calls.leave(keys_, self._worker, part)
                    await self._transport.run(call, patience=0 if unreachable else LEAVE_PATIENCE)
        except (RedisError, TimeoutError) as error:
            text = str(error) or f"no reply within {LEAVE_TIMEOUT:g} s"
            self._log.warning("worker.leave_failed", shard=shard, error=text)
