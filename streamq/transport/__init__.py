"""The only package that imports redis: runs Calls, reads with blocking, listens to channels.

Owns URL forms, which of several servers is asked, connections, reconnecting and resending, and the
translation of the client library's errors into ours. Knows no task and no script by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy
from streamq.transport.address import Address as Address

if TYPE_CHECKING:
    from streamq.transport.aio import AsyncTransport as AsyncTransport
    from streamq.transport.faults import GroupMissing as GroupMissing
    from streamq.transport.faults import ServerChanged as ServerChanged
    from streamq.transport.lane import Lane as Lane
    from streamq.transport.listener import Listener as Listener
    from streamq.transport.listener import Ring as Ring
    from streamq.transport.reader import AsyncReader as AsyncReader
    from streamq.transport.returning import answers as answers
    from streamq.transport.returning import arrived as arrived
    from streamq.transport.returning import returned as returned
    from streamq.transport.server import ServerInfo as ServerInfo
    from streamq.transport.server import warn_of_eviction as warn_of_eviction
    from streamq.transport.subscription import AsyncSubscription as AsyncSubscription
    from streamq.transport.subscription import Subscription as Subscription
    from streamq.transport.sync import SyncTransport as SyncTransport
    from streamq.transport.trial import refusals as refusals

# What needs the client library, which takes longer to load than all the rest, waits until it is used.
__all__, _named = lazy.names(  # pyright: ignore[reportUnsupportedDunderAll]
    __name__,
    {
        "address": ("Address",),
        "aio": ("AsyncTransport",),
        "faults": ("GroupMissing", "ServerChanged"),
        "lane": ("Lane",),
        "listener": ("Listener", "Ring"),
        "reader": ("AsyncReader",),
        "returning": ("answers", "arrived", "returned"),
        "server": ("ServerInfo", "warn_of_eviction"),
        "subscription": ("AsyncSubscription", "Subscription"),
        "sync": ("SyncTransport",),
        "trial": ("refusals",),
    },
)


def __getattr__(name: str) -> object:
    return _named(name)
