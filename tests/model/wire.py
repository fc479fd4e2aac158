"""Many questions in one round trip, so that everything can be checked after every step."""

from __future__ import annotations

from typing import Any

from redis import exceptions as lib

from streamq.calls.call import Call
from streamq.transport import wire
from streamq.transport.sync_transport import SyncTransport


class Wire:
    """A connection of its own. Only for calls that change nothing twice: each is sent once."""

    def __init__(self, transport: SyncTransport) -> None:
        node = transport.find(None) or transport.discover(None)
        self._connection: Any = transport.open(node).connection

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The raw replies; an error is raised when all have been read."""
        replies = self._exchange(commands)
        for reply in replies:
            if isinstance(reply, lib.ResponseError):
                raise reply
        return replies

    def run(self, calls: list[Call[Any]]) -> list[Any]:
        """The results, in the order of the calls."""
        replies = self._exchange([wire.by_sha(call) for call in calls])
        found: list[Any] = []
        for call, reply in zip(calls, replies, strict=True):
            known = not isinstance(reply, lib.NoScriptError)
            found.append(call.parse(reply if known else self.ask([wire.by_text(call)])[0]))
        return found

    def _exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._read() for _ in commands]

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except lib.ResponseError as error:
            return error

    def close(self) -> None:
        self._connection.disconnect()
