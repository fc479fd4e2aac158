"""An app's queue from outside: its inspector, admin, schedules and flows, and whether work is left.

Owns when each of them is made: a producer loads none. Must not know how they work: `control` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from streamq import blocking
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.options.checks import Duration
from streamq.registry.registry import Registry

if TYPE_CHECKING:
    from streamq.control.admin import Admin, AsyncAdmin
    from streamq.control.flows import AsyncFlows, Flows
    from streamq.control.idle import Scope
    from streamq.control.inspector import AsyncInspector, Inspector
    from streamq.control.schedules import AsyncSchedules, Schedules
    from streamq.transport.async_transport import AsyncTransport


class QueueAccess:
    """Asks about an app's queue and acts on it. The app has the registry and the clients."""

    registry: Registry
    _client: Client
    _asyncs: AsyncClients

    @cached_property  # one object, so that tests can patch what a program uses
    def inspector(self) -> Inspector:
        """Queries about this app's queue: counts, tasks, dead letters, workers, the audit."""
        from streamq.control.inspector import Inspector  # noqa: PLC0415 - a producer does not pay for it

        return Inspector(self._client.transport, self.registry.name, self.registry.shards)

    @cached_property
    def ainspector(self) -> AsyncInspector:
        """The `inspector` for event loops: each query is awaited."""
        from streamq.control.inspector import AsyncInspector  # noqa: PLC0415 - as above

        return AsyncInspector(self._atransport, self.registry.name, self.registry.shards)

    @cached_property
    def admin(self) -> Admin:
        """The operator's actions: cancel, requeue and purge dead letters, repair what the audit finds."""
        from streamq.control.admin import Admin  # noqa: PLC0415 - a producer does not pay for it

        return Admin(self._client.transport, self.registry.name, self.registry.shards)

    @cached_property
    def aadmin(self) -> AsyncAdmin:
        """The `admin` for event loops: each action is awaited."""
        from streamq.control.admin import AsyncAdmin  # noqa: PLC0415 - as above

        return AsyncAdmin(self._atransport, self.registry.name, self.registry.shards)

    @cached_property
    def schedules(self) -> Schedules:
        """Recurring tasks: put, list, pause, resume and remove schedules, run one now, backfill."""
        from streamq.control.schedules import Schedules  # noqa: PLC0415 - most apps have none

        shards, declared = self.registry.shards, lambda: self.registry.handlers
        return Schedules(self._client.transport, self.registry.name, shards, declared=declared)

    @cached_property
    def aschedules(self) -> AsyncSchedules:
        """As `schedules`, for event loops: each operation is awaited."""
        from streamq.control.schedules import AsyncSchedules  # noqa: PLC0415 - as above

        shards, declared = self.registry.shards, lambda: self.registry.handlers
        return AsyncSchedules(self._atransport, self.registry.name, shards, declared=declared)

    @cached_property
    def flows(self) -> Flows:
        """The flows that exist: list them, show one with its nodes, cancel one, let a failed one go on."""
        from streamq.control.flows import Flows  # noqa: PLC0415 - most apps have none

        return Flows(self._client.transport, self.registry.name, self.registry.shards)

    @cached_property
    def aflows(self) -> AsyncFlows:
        """As `flows`, for event loops: each operation is awaited."""
        from streamq.control.flows import AsyncFlows  # noqa: PLC0415 - as above

        return AsyncFlows(self._atransport, self.registry.name, self.registry.shards)

    def _atransport(self) -> AsyncTransport:
        return self._asyncs.current().transport

    def idle(self, types: str | Iterable[str] | None = None, *, scheduled: bool = False) -> bool:
        """Return whether no work is left: no task is ready, running or due.

        types: only of these task types. scheduled: and none is due later either, retries included.
        """
        from streamq.control import idle  # noqa: PLC0415 - a producer does not pay for it

        blocking.refuse("app.idle()", "await app.aidle()")
        return self._client.drive(idle.idle(self._scope(types, scheduled)))

    async def aidle(self, types: str | Iterable[str] | None = None, *, scheduled: bool = False) -> bool:
        """Return whether no work is left, as `idle` does."""
        from streamq.control import idle  # noqa: PLC0415

        return await self._asyncs.current().drive(idle.idle(self._scope(types, scheduled)))

    def wait_idle(
        self,
        timeout: Duration | None = None,
        *,
        types: str | Iterable[str] | None = None,
        scheduled: bool = False,
    ) -> bool:
        """Wait until the queue is `idle`, at most `timeout` (None waits forever); return whether it is."""
        from streamq.control import idle  # noqa: PLC0415

        blocking.refuse("app.wait_idle()", "await app.await_idle()")
        return idle.wait_idle(self._client, self._scope(types, scheduled), timeout)

    async def await_idle(
        self,
        timeout: Duration | None = None,
        *,
        types: str | Iterable[str] | None = None,
        scheduled: bool = False,
    ) -> bool:
        """Wait until the queue is idle, as `wait_idle` does."""
        from streamq.control import idle  # noqa: PLC0415

        return await idle.await_idle(self._asyncs.current(), self._scope(types, scheduled), timeout)

    def _scope(self, types: str | Iterable[str] | None, scheduled: bool) -> Scope:
        from streamq.control import idle  # noqa: PLC0415

        return idle.scope(self.registry.name, self.registry.shards, types, scheduled=scheduled)

    def _forget_access(self) -> None:
        """Make all of them anew when they are used next: the app has another server."""
        for name, made in vars(QueueAccess).items():
            if isinstance(made, cached_property):
                vars(self).pop(name, None)
