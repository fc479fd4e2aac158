"""The only package that imports redis: runs Calls, reads with blocking, listens to channels.

Owns URL forms, which of several servers is asked, connections, reconnecting and resending, and the
translation of the client library's errors into ours. Knows no task and no script by name.
"""

from streamq.transport.address import Address
from streamq.transport.aio import AsyncTransport
from streamq.transport.faults import GroupMissing, ServerChanged
from streamq.transport.reader import AsyncReader
from streamq.transport.server import ServerInfo, warn_of_eviction
from streamq.transport.subscription import AsyncSubscription, Subscription
from streamq.transport.sync import SyncTransport
from streamq.transport.trial import refusals

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
    "refusals",
    "warn_of_eviction",
]
