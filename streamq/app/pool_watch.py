"""Says when tasks are sent to a pool that no living worker serves: they wait until one comes.

Owns how often that is looked at: once a minute for each type and pool, after the tasks have been sent. Tasks
that name no pool cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from streamq.app.bound_task import Bound
from streamq.errors import RedisError
from streamq.flow import Flow
from streamq.registry.handler import Handler

INTERVAL: Final = 60.0


class PoolWatch:
    """Of one app in one process."""

    def __init__(self) -> None:
        self._looked: dict[str, float] = {}

    def due(self, bound: Iterable[Bound[object]]) -> list[Handler]:
        """Return the handlers of these calls that have a pool and were not looked at lately."""
        now, found = time.monotonic(), dict[str, Handler]()
        for item in bound:
            handler = item.handler
            if handler.pool and now - self._looked.get(handler.name, -INTERVAL) >= INTERVAL:
                found[handler.name] = handler
        self._looked.update(dict.fromkeys(found, now))
        return list(found.values())

    def look(self, app: str, handlers: Iterable[Handler]) -> Flow[None]:
        """Warn of each type whose pool no living worker serves. The tasks have been sent: raises nothing."""
        from streamq.control.heartbeats import workers  # noqa: PLC0415 - most apps have no pools
        from streamq.telemetry import logs  # noqa: PLC0415

        try:
            living = [one for one in (yield from workers(app)) if one.alive]
        except RedisError:
            return
        served = {name for one in living for name in one.details.get("types", ())}
        for handler in handlers:
            if handler.name not in served:
                fix = f"tasks wait: start a worker with --pools {handler.pool}, or correct options(pool=...)"
                logs.get_logger().warning("pool.not_served", type=handler.name, pool=handler.pool, fix=fix)
