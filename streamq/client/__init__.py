"""Puts tasks in: a sync and an async client over the same calls.

Owns the writers (who makes enqueue safe to resend), the registration of task types and the group
commit of concurrent `aenqueue` calls. Knows no handler's code and no worker.
"""

from streamq.client.loops import AsyncClients
from streamq.client.sync import Client
from streamq.client.writers import BATCH, Writer

__all__ = ["BATCH", "AsyncClients", "Client", "Writer"]
