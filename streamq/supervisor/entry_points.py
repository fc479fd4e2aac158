"""The functions that a supervisor's new processes begin with.

Owns the first step only. The supervisor imports this module, so what the processes are made of is loaded in
the new process.
"""

from __future__ import annotations

import gc
from multiprocessing.connection import Connection

from streamq.supervisor.spec import Launch


def worker(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """A worker process, from its start to its exit code. pipe: for its reports; news: see `member.live`."""
    gc.disable()  # while modules are loaded; the worker switches it on when it is ready
    from streamq.supervisor import member  # noqa: PLC0415 - loaded in the new process only

    member.serve_worker(launch, pipe, news)


def daemon(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """The daemon that `--with-daemon` runs beside the workers."""
    from streamq.supervisor import member  # noqa: PLC0415 - as above

    member.serve_daemon(launch, pipe, news)
