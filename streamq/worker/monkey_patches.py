"""Refuses to work in a process whose threads and sockets gevent or eventlet have replaced.

The thread that renews leases and the event loop would share one real thread, so a handler that blocks would
lose its tasks. Owns the check and its error. Producers may be patched.
"""

from __future__ import annotations

import sys
from typing import Any

from streamq.errors import UsageError


def refuse() -> None:
    """Raise UsageError if the standard library of this process is patched."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "socket", "_thread"))):
        raise _refused("gevent")
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "socket"))):
        raise _refused("eventlet")


def _refused(by: str) -> UsageError:
    return UsageError(
        f"a worker cannot run here: {by} has patched threads or sockets, so leases would be renewed only "
        "while no handler runs. Start the worker without monkey patching: keep patch_all() out of the "
        "modules that it imports. Producers may be patched"
    )
