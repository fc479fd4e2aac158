"""What a supervisor and its processes have agreed on: what a process is told, and what its end means.

Owns the functions that new processes begin with. The supervisor imports this module, so it loads nothing of
what the processes are made of.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from streamq.options import WorkerOptions

EXIT_UNREACHABLE: Final = 69
EXIT_WEDGED: Final = 70
EXIT_WORN_OUT: Final = 75
EXIT_DRAINED: Final = 76
"""An operator asked this worker to end: no other takes its place."""
EXIT_DENIED: Final = 77
EXIT_CONFIG: Final = 78


@dataclass(frozen=True, slots=True)
class Launch:
    """What a child process needs to know. `app` is `module:attribute`."""

    app: str
    url: str | None
    options: WorkerOptions
    group: str
    log_level: str
    log_format: str
    reports: bool = False
    prefix: str | None = None
    imports: tuple[str, ...] = ()


def worker(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """A worker process, from its start to its exit code. pipe: for its reports; news: see `member.live`."""
    gc.disable()  # while modules are loaded; the worker switches it on when it is ready
    from streamq.worker import member  # noqa: PLC0415 - loaded in the new process only

    member.serve_worker(launch, pipe, news)


def daemon(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """The daemon that `--with-daemon` runs beside the workers."""
    from streamq.worker import member  # noqa: PLC0415 - as above

    member.serve_daemon(launch, pipe, news)
