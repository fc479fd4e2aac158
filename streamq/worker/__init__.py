"""Workers: fetch -> run -> settle, with leases renewed beside it.

`group` is the supervisor of a host's processes, `launch` what it and they have agreed on, `member` the
inside of such a process, `process` the life of a worker, `fetcher`, `runner` and `settler` the way of a
task, `leases` the thread that keeps deliveries ours, `executors` where handlers run. Values flow one way;
only the settler writes outcomes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamq.worker.group import WorkerGroup
    from streamq.worker.process import Worker

__all__ = ["Worker", "WorkerGroup"]

_HOMES = {"Worker": "process", "WorkerGroup": "group"}
"""Loaded when it is used: a supervisor does not need what its workers are made of."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamq.worker' has no attribute {name!r}")
    value = getattr(import_module(f"streamq.worker.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
