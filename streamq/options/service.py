"""Define the settings of a worker process and of the daemon.

Owns their defaults and limits. Reads no environment and no command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from streamq.errors import InvalidOption
from streamq.options.checks import Duration, seconds, size, whole
from streamq.options.placement import DEFAULT, label, resources


def _to_seconds(options: object, least: Mapping[str, float]) -> None:
    """Convert the named durations, given in any form, to seconds."""
    for name, smallest in least.items():
        object.__setattr__(options, name, seconds(getattr(options, name), name, least=smallest))


def _names(chosen: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(chosen, str) or not chosen:
        raise InvalidOption(f"{name}={chosen!r:.80}: must be several names, such as ('media', 'default')")
    return tuple(dict.fromkeys(label(one, name) for one in chosen))


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Settings of a worker process.

    concurrency: how many tasks run at the same time in one process.
    types: the task types to serve; None serves all of the app.
    drain_timeout: seconds for running tasks to finish after SIGTERM before they are handed back.
    lifespan_timeout: seconds for the app's lifespan to end, after the drain.
    block: seconds that one blocking read lasts, which is how often an idle worker contacts the server.
    heartbeat: seconds between two heartbeats.
    fairness: seconds after which a lower priority gets a turn although higher ones have work.
    process_slots: how many child processes run handlers with executor="process"; None is one per core.
    burst: end when no task of the types is ready, running or due.
    queues: serve the types with these labels only; None is all.
    pools: serve tasks for these pools; "default" means tasks that name none.
    resources: what the process has for types that need it, such as {"gpu": 2}.
    recycle_after: the number of tasks after which a supervisor replaces the process; None never does.
    recycle_rss: the resident size after which it does, in bytes or as text such as "1GB".
    """

    concurrency: int = 100
    types: tuple[str, ...] | None = None
    drain_timeout: float = 30.0
    lifespan_timeout: float = 10.0
    block: float = 5.0
    heartbeat: float = 5.0
    fairness: float = 3.0
    process_slots: int | None = None
    burst: bool = False
    recycle_after: int | None = None
    recycle_rss: int | None = None
    queues: tuple[str, ...] | None = None
    pools: tuple[str, ...] = (DEFAULT,)
    resources: tuple[tuple[str, int], ...] = ()

    if TYPE_CHECKING:  # a duration may be given in any form; the fields are seconds

        def __init__(  # noqa: PLR0913, PLR0917 - as the fields
            self,
            concurrency: int = ...,
            types: tuple[str, ...] | None = ...,
            drain_timeout: Duration = ...,
            lifespan_timeout: Duration = ...,
            block: Duration = ...,
            heartbeat: Duration = ...,
            fairness: Duration = ...,
            process_slots: int | None = ...,
            burst: bool = ...,
            recycle_after: int | None = ...,
            recycle_rss: int | str | None = ...,
            queues: Sequence[str] | None = ...,
            pools: Sequence[str] = ...,
            resources: Mapping[str, int] | tuple[tuple[str, int], ...] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        whole(self.concurrency, "concurrency", least=1)
        _to_seconds(self, {"lifespan_timeout": 0.0})
        _to_seconds(self, {"drain_timeout": 0.0, "block": 0.05, "heartbeat": 0.05, "fairness": 0.0})
        if isinstance(self.types, str):
            raise InvalidOption(f"types={self.types!r}: must be several names. Write ({self.types!r},)")
        for name in ("queues", "pools"):
            if (chosen := getattr(self, name)) is not None:
                object.__setattr__(self, name, _names(chosen, name))
        object.__setattr__(self, "resources", resources(self.resources, "resources"))
        if self.process_slots is not None:
            whole(self.process_slots, "process_slots", least=1)
        if self.recycle_after is not None:
            whole(self.recycle_after, "recycle_after", least=1)
        if self.recycle_rss is not None:
            object.__setattr__(self, "recycle_rss", size(self.recycle_rss, "recycle_rss"))

    @property
    def recycles(self) -> bool:
        """Whether the process is to be replaced at some time."""
        return self.recycle_after is not None or self.recycle_rss is not None


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """Settings of the daemon.

    claim_interval: seconds between two searches for deliveries whose worker is silent.
    tidy_interval: seconds between two rounds of housekeeping.
    discover_interval: seconds between two searches for new apps and task types.
    expire_interval: seconds between two searches for tasks that expired before a worker took them.
    sample_interval: seconds between two samples of the counters, for rates and charts.
    consumer_idle: seconds after which a consumer that holds nothing and sends no heartbeat is removed.
    gone_retention: seconds for which a cancelled or expired task is remembered.
    heartbeat: seconds between two heartbeats.
    batch: the maximum number of tasks that one script call moves.
    """

    claim_interval: float = 3.0
    tidy_interval: float = 30.0
    discover_interval: float = 10.0
    expire_interval: float = 10.0
    sample_interval: float = 15.0
    consumer_idle: float = 3600.0
    gone_retention: float = 86400.0
    heartbeat: float = 10.0
    batch: int = 50

    if TYPE_CHECKING:

        def __init__(
            self,
            claim_interval: Duration = ...,
            tidy_interval: Duration = ...,
            discover_interval: Duration = ...,
            expire_interval: Duration = ...,
            sample_interval: Duration = ...,
            consumer_idle: Duration = ...,
            gone_retention: Duration = ...,
            heartbeat: Duration = ...,
            batch: int = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        intervals = [one.name for one in fields(self) if one.name.endswith(("_interval", "heartbeat"))]
        _to_seconds(self, dict.fromkeys(intervals, 0.01) | {"consumer_idle": 0.0, "gone_retention": 0.0})
        whole(self.batch, "batch", least=1)
