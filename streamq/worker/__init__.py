"""Workers: fetch -> run -> settle, with leases renewed beside it.

`group` is the supervisor of a host's processes, `launch` what it and they have agreed on, `member` the
inside of such a process, `process` the life of a worker, `fetcher`, `runner`, `attempts` and `settler` the
way of a task, `leases` the thread that keeps deliveries ours, `executors` where handlers run. Values flow
one way; only the settler writes outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.worker.group import WorkerGroup as WorkerGroup
    from streamq.worker.process import Worker as Worker

# A supervisor does not need what its workers are made of.
__all__, _named = lazy.names(  # pyright: ignore[reportUnsupportedDunderAll]
    __name__, {"group": ("WorkerGroup",), "process": ("Worker",)}
)


def __getattr__(name: str) -> object:
    return _named(name)
