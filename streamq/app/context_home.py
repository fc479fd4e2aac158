"""What the contexts of an app's handlers start: follow-ups, new runs, steps and live events.

Owns only which of them does what: a context knows nothing of streamq but this.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from streamq.app.bound_task import Bound
from streamq.app.enqueuer import Enqueuer
from streamq.context_protocols import Enqueues, Returns
from streamq.model.delivery import Delivery
from streamq.registry.registry import Registry
from streamq.transport.address import Address

if TYPE_CHECKING:
    from streamq.app.expand import Spawns
    from streamq.app.follow_ups import FollowUps
    from streamq.app.going_on import GoingOn
    from streamq.app.live import Live
    from streamq.app.steps import Steps


T = TypeVar("T")


class ContextHome:
    """The home of an app's contexts. Safe to use in any thread."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer) -> None:
        self._registry, self._enqueuer = registry, enqueuer

    @cached_property
    def _follow_ups(self) -> FollowUps:
        from streamq.app.follow_ups import FollowUps  # noqa: PLC0415 - a producer has none

        return FollowUps(self._registry, self._enqueuer)

    @cached_property
    def _spawns(self) -> Spawns:
        from streamq.app.expand import Spawns  # noqa: PLC0415 - as above

        return Spawns(self._registry)

    @cached_property
    def _going_on(self) -> GoingOn:
        from streamq.app.going_on import GoingOn  # noqa: PLC0415 - as above

        return GoingOn(self._registry)

    @cached_property
    def _live(self) -> Live:
        from streamq.app.live import Live  # noqa: PLC0415 - as above

        return Live(self._registry, self._enqueuer)

    @property
    def server(self) -> Address:
        """The server of the app, for another process."""
        return self._enqueuer.server

    def move(self, server: Address) -> None:
        """Use this server: that of the worker which started this process."""
        self._enqueuer.move(server)

    def follow(self, task: Delivery, before: list[object], calls: Iterable[Enqueues[T]]) -> list[T]:
        """Add follow-ups to those before; return their handles."""
        bound = cast("Iterable[Bound[object]]", calls)  # what is none is refused there
        return cast("list[T]", self._follow_ups.follow(task, before, bound))

    def spawn(self, task: Delivery, before: list[object], calls: Iterable[Enqueues[object]]) -> None:
        """Add children of a flow's node to what was enqueued before."""
        self._spawns.spawn(task, before, calls)

    def go_on(self, task: Delivery, before: list[object], call: Returns[T]) -> T:
        """Add the new run of a task to what was enqueued before; return what stands for its result."""
        bound = cast("Bound[object]", call)  # what is none is refused there
        return cast("T", self._going_on.go_on(task, before, bound))

    def steps(self, task: Delivery, worker: str) -> Steps:
        """Return the steps of an attempt that has made none yet."""
        from streamq.app.steps import Steps  # noqa: PLC0415 - as above

        return Steps(self._registry, self._enqueuer, task, worker)

    def progress(self, task: Delivery, worker: str, done: float, total: float | None, text: str) -> None:
        """Publish the progress of an attempt."""
        self._live.progress(task, worker, done, total, text)

    def emit(self, task: Delivery, worker: str, value: object) -> None:
        """Publish a value of an attempt."""
        self._live.emit(task, worker, value)

    def log(self, task: Delivery, worker: str, level: int, logger: str, message: str) -> bool:
        """Tell a log record of an attempt, if its type shows such; return whether it does."""
        return self._live.log(task, worker, level, logger, message)

    def flush(self, task: Delivery) -> None:
        """Send what an attempt has published."""
        self._live.flush(task)
