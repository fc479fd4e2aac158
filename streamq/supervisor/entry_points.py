"""The entry points of the processes that a supervisor starts.

Owns the first step only. Must not import what the processes are made of at import time: the supervisor
imports this module, and only the new process should load the rest.
"""

from __future__ import annotations

import gc
from multiprocessing.connection import Connection

from streamq.supervisor.spec import Launch


def worker(launch: Launch, reports: Connection | None, startup: Connection | None = None) -> None:
    """Run a worker process. `reports`, `startup`: see `member.run_service`."""
    gc.disable()  # while modules are loaded; the worker enables it when it is ready
    from streamq.supervisor import member  # noqa: PLC0415 - loaded in the new process only

    member.serve_worker(launch, reports, startup)


def daemon(launch: Launch, reports: Connection | None, startup: Connection | None = None) -> None:
    """Run the daemon process that `--with-daemon` starts beside the workers."""
    from streamq.supervisor import member  # noqa: PLC0415 - loaded in the new process only

    member.serve_daemon(launch, reports, startup)
