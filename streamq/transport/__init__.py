"""The only package that imports redis: runs Calls, reads with blocking, listens to channels.

Owns URL forms, connections, reconnecting and resending, and the translation of the client library's
errors into ours. Knows no task and no script by name.
"""

from streamq.transport.address import Address
from streamq.transport.aio import AsyncReader, AsyncTransport
from streamq.transport.faults import GroupMissing
from streamq.transport.server import ServerInfo
from streamq.transport.subscription import AsyncSubscription, Subscription
from streamq.transport.sync import SyncTransport
from streamq.transport.trial import refusals

__all__ = [
    "Address",
    "AsyncReader",
    "AsyncSubscription",
    "AsyncTransport",
    "GroupMissing",
    "ServerInfo",
    "Subscription",
    "SyncTransport",
    "refusals",
]
