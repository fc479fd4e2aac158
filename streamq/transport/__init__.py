"""The only package that imports redis: runs Calls, reads with blocking, listens to channels.

Owns URL forms, which of several servers is asked, connections, reconnecting and resending, and the
translation of the client library's errors into ours. Knows no task and no script by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamq.transport.address import Address

if TYPE_CHECKING:
    from streamq.transport.aio import AsyncTransport
    from streamq.transport.faults import GroupMissing, ServerChanged
    from streamq.transport.reader import AsyncReader
    from streamq.transport.returning import answers, returned
    from streamq.transport.server import ServerInfo, warn_of_eviction
    from streamq.transport.subscription import AsyncSubscription, Subscription
    from streamq.transport.sync import SyncTransport
    from streamq.transport.trial import refusals

_HOMES = {
    "AsyncReader": "reader",
    "AsyncSubscription": "subscription",
    "AsyncTransport": "aio",
    "GroupMissing": "faults",
    "ServerChanged": "faults",
    "ServerInfo": "server",
    "Subscription": "subscription",
    "SyncTransport": "sync",
    "answers": "returning",
    "refusals": "trial",
    "returned": "returning",
    "warn_of_eviction": "server",
}
"""What needs the client library, which takes longer to load than all the rest: loaded when it is used."""

__all__ = [
    "Address",
    "AsyncReader",
    "AsyncSubscription",
    "AsyncTransport",
    "GroupMissing",
    "ServerChanged",
    "ServerInfo",
    "Subscription",
    "SyncTransport",
    "answers",
    "refusals",
    "returned",
    "warn_of_eviction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamq.transport' has no attribute {name!r}")
    value = getattr(import_module(f"streamq.transport.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
