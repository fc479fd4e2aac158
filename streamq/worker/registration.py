"""What the servers know of a worker: its app, its types and their groups in every shard, and that it leaves.

Owns the calls that say so. Takes no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.control.unreadable import of_data
from streamq.doctor import needs
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.flow import adrive
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.registry.redefinition import importable, moved
from streamq.registry.registry import Registry
from streamq.shards import AppRecord
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server import warn_of_eviction
from streamq.transport.server_wait import arrived
from streamq.worker.in_flight import chunks

START_PATIENCE: Final = 10.0
START_AGAIN: Final = 0.5
"""Seconds after which a start is tried again that the server's end had cut short."""
LEAVE_PATIENCE: Final = 1.0
AT_ONCE: Final = 1000
"""Streams that one script looks at: it blocks the server."""
LEAVE_WITHIN: Final = 3.0
"""Seconds to say that we read no more; who is not heard is swept away by the daemon."""


class Registration:
    """Of one worker process, which serves these types."""

    def __init__(self, transport: AsyncTransport, registry: Registry, types: list[str], worker: str) -> None:
        self._transport = transport
        self._registry, self._types = registry, types
        self._worker = worker
        self._log = logs.get_logger(worker=worker)

    async def announce(self, stop: asyncio.Event) -> AppRecord | None:
        """Wait for the server, check it and make the app known; our types and their groups in every shard.
        None where we are to stop before. Raises RedisErrors of a server that is there, but refuses us."""
        while await arrived(self._transport, self._log, stop=stop):
            try:
                return await self._announce()
            except RedisUnavailable as error:
                self._log.warning("redis.unavailable", doing="start", error=str(error))
                await asyncio.sleep(START_AGAIN)
        return None

    async def _announce(self) -> AppRecord:
        record: AppRecord | None = None
        told = producer_calls.announce(self._registry.name, self._registry.shards)
        with self._apart(told.keys, "the app has as many shards as its code says"):
            record = await self._transport.run(told)
        if record is None:
            record = AppRecord(self._registry.shards, self._registry.shards)
        for shard in range(record.known):
            await self._check_rights(shard)
            await self._register_all(shard)
        await self._declare()
        # A worker that may not read would be ready, and take nothing.
        first = type_keys(self._registry.name, 0, self._types[0])
        with self._apart((first.normal,), "the other streams are served"):
            await self._transport.run(worker_calls.may_read(first, self._worker))
        warn_of_eviction(self._transport.servers(), self._log)
        return record

    async def _check_rights(self, shard: int) -> None:
        """Raise AuthenticationFailed where the user may not do all that a worker must: it would be found out
        when the end of a task could not be stored."""
        app, first = self._registry.name, self._types[0]
        commands = {" ".join(needs.sample(name, app, shard, first)): name for name in needs.essential()}
        try:
            refused = await self._transport.run(
                worker_calls.rights(type_keys(app, shard, first), list(commands))
            )
        except ServerError:
            return  # it cannot be asked
        if refused:
            lacking = dict.fromkeys(needs.command_of(commands[one]) for one in refused)
            grants = " ".join(f"+{one.lower().replace(' ', '|')}" for one in lacking)
            raise AuthenticationFailed(
                f"{self._transport.address} does not let this user run the tasks of app {app!r}: no right to "
                f"{', '.join(lacking)} on its keys. Grant it with ACL SETUSER <user> {grants}; `streamq "
                "doctor` tells of all rights"
            )

    async def prepare(self, shard: int, details: bytes) -> frozenset[str]:
        """Make a shard ready to be read. Answers what is paused, there or everywhere: it is not begun.

        The first heartbeat comes before the first delivery: it tells under which lease that is renewed.
        """
        await self._register_all(shard)
        beat = worker_calls.beat(shard_keys(self._registry.name, shard), self._worker, details)
        with self._apart(beat.keys, "others do not see that this worker lives"):
            await self._transport.run(beat, patience=START_PATIENCE)
        paused: frozenset[str] = frozenset()
        for n in {0, shard}:
            call = worker_calls.orders(shard_keys(self._registry.name, n), self._worker)
            with self._apart(call.keys, "nothing counts as paused there"):
                paused |= (await self._transport.run(call, patience=START_PATIENCE)).paused
        return paused

    async def _register_all(self, shard: int) -> None:
        keys = [type_keys(self._registry.name, shard, name) for name in self._types]
        for one in keys:
            with self._apart(
                (one.policy, shard_keys(one.app, shard).types), "it is served by its code's policy"
            ):
                await self._register(one, shard)
        for streams in chunks([stream for one in keys for stream in one.streams], AT_ONCE):
            with self._apart((), "the other streams are served"):
                await self._transport.run(worker_calls.groups(streams))

    async def _register(self, keys: TypeKeys, shard: int) -> None:
        handler = self._registry.handlers[keys.type]
        now = importable(handler.reference)
        told = producer_calls.register(
            keys, shard_keys(self._registry.name, shard), now, handler.options.policy()
        )
        before = await self._transport.run(told)
        if before and moved(before, now):
            self._log.warning(
                "type.handler_changed",
                type=keys.type,
                before=before,
                now=now,
                fix="none, where the function was moved or renamed; where both are in use, they take each "
                "other's tasks: give one another name with @app.task(name=...), or its app another name",
            )

    async def _declare(self) -> None:
        """Register the schedules of our types' code."""
        names = self._registry.declared(self._types)
        if not names:
            return
        from streamq.control.schedules import declared  # noqa: PLC0415 - most workers have none

        handlers = [self._registry.handlers[name] for name in names]
        key = shard_keys(self._registry.name, 0).schedules
        with self._apart((key,), "the schedules of this code are not registered"):
            await adrive(self._transport, declared(self._registry.name, self._registry.shards, handlers))

    @contextmanager
    def _apart(self, keys: Sequence[str], so: str) -> Generator[None]:
        """A key that holds what streamq did not write keeps no worker from starting: it is told, and what
        else there is is served. Raises the RedisErrors that have another cause."""
        try:
            yield
        except RedisError as error:
            if not of_data(error):
                raise
            fix = f"streamq audit tells which key holds the wrong kind of value; meanwhile {so}"
            self._log.error("stored.unreadable", keys=list(keys), error=str(error), fix=fix)

    async def leave(self, shard: int, *, away: bool) -> None:
        """Say that we read from a shard no more; only once where its server is known to be away."""
        keys = [type_keys(self._registry.name, shard, name) for name in self._types]
        streams = [stream for one in keys for stream in one.streams]
        keys_ = shard_keys(self._registry.name, shard)
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                for part in chunks(streams, AT_ONCE):
                    call = worker_calls.leave(keys_, self._worker, part)
                    await self._transport.run(call, patience=0 if away else LEAVE_PATIENCE)
        except (RedisError, TimeoutError) as error:
            told = str(error) or "the server is silent"
            self._log.warning("worker.leave_failed", shard=shard, error=told)
