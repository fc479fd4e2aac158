"""Where the queue of a test lies: on a private server, or under a prefix of its own on one that others use.

Owns its emptying. A server that the kit did not start is never emptied: only what lies under the prefix is.
"""

from __future__ import annotations

import secrets
from typing import Final

from streamq.calls.call import Call
from streamq.embedded import EmbeddedServer
from streamq.errors import UsageError
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

PREFIX: Final = "streamq-test:"
_DELETE: Final = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"


class Place:
    """A place for one queue at a time. server: a private one, or the URL of another; None starts one."""

    def __init__(self, server: EmbeddedServer | str | None) -> None:
        self._server: EmbeddedServer | str = EmbeddedServer() if server is None else server
        self._own = self._server if server is None and isinstance(self._server, EmbeddedServer) else None
        self.pattern: str = "*"

    def open(self, prefix: str) -> tuple[Address, SyncTransport]:
        """Return the address, and a connection to it; nothing is there. prefix: that of the app's keys."""
        if self._own is not None:
            self._own.start()
        if isinstance(self._server, EmbeddedServer):
            address = Address.parse(self._server.url, "code", prefix=prefix)
        else:
            prefix = f"{PREFIX}{secrets.token_hex(4)}:"
            self.pattern = f"{prefix}*"
            address = Address.parse(self._server, "code", prefix=prefix)
            if address.kind == "cluster":
                raise UsageError(
                    "the test kit needs a single server: its clock is a key that all scripts read"
                )
        transport = SyncTransport(address)
        if self.pattern == "*":
            transport.run(Call(None, (), ("FLUSHALL",), lambda reply: reply))
        return address, transport

    def close(self, transport: SyncTransport) -> None:
        """Remove what the queue has left on a server that is not the kit's; close the connection."""
        if self.pattern != "*":
            transport.run(Call(None, (), ("EVAL", _DELETE, 0, self.pattern), lambda reply: reply))
        transport.close()
        if self._own is not None:
            self._own.stop()
