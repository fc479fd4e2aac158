"""What sync and async connections share: how commands are packed, and what a Call is on the wire.

Owns the packing, the limits that both kinds of connection keep, and the reading of a reply to a call that is
confirmed. Must not open a connection: see `sync_connect` and `async_connect`.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from redis import exceptions as lib

from streamq.calls.call import AnyCall

Command = tuple[object, ...]
"""The words of one command."""


def _installed() -> Any:
    try:
        import hiredis  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return hiredis


hiredis: Final[Any] = _installed()
ProtocolError: Final[type[Exception]] = hiredis.ProtocolError if hiredis else lib.InvalidResponse

COMMAND_TIMEOUT: Final = 5.0
MAX_CONNECTIONS: Final = 32
"""Shared connections to one server at most: further calls wait for one. Idle connections are kept."""
FRESH: Final = 0.0002
"""Seconds after a call during which its connection is reused without checking that it is still open."""
INFO: Final = ("INFO",)

CLOSED: Final = "the server closed the connection"
ALL_BUSY: Final = f"all {MAX_CONNECTIONS} connections of this program are busy"
INCOMPLETE: Final = object()
"""What the parser returns as long as a reply has not arrived in full."""


class NotSent(lib.ConnectionError):
    """The connection was closed already: the command was not sent, so it was not executed."""


class ReplyReader(Protocol):
    """hiredis's parser of replies."""

    def feed(self, data: bytes, /) -> None: ...
    def gets(self) -> object: ...


def reply_reader() -> ReplyReader:
    """Return a parser that returns an error reply as the client library's error. Needs hiredis."""
    reader: ReplyReader = hiredis.Reader(notEnoughData=INCOMPLETE, replyError=reply_error)
    return reader


_ERRORS: Final[Mapping[str, type[lib.ResponseError]]] = {
    "NOSCRIPT": lib.NoScriptError, "NOPERM": lib.NoPermissionError
}  # fmt: skip


def reply_error(text: str) -> lib.ResponseError:
    """Return an error reply as the client library's error."""
    return _ERRORS.get(text.partition(" ")[0], lib.ResponseError)(text)


def unread_input(connected: socket.socket | None) -> Callable[[int], Sequence[object]]:
    """Return a function that polls a socket for unread input; on an idle connection that is its end, or a
    stray reply. It asks the system, not the event loop, which may not have run since."""
    descriptor = -1 if connected is None else connected.fileno()
    if not hasattr(select, "poll") or descriptor < 0:
        return lambda _wait: ()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


def pack_commands(commands: Iterable[Command]) -> bytes:
    """Return commands as they are sent."""
    return b"".join(map(pack_command, commands))


def _packed(command: Command) -> bytes:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)))


pack_command: Final[Callable[[Command], bytes]] = hiredis.pack_command if hiredis else _packed
"""Return one command as it is sent."""


def by_sha(call: AnyCall) -> Command:
    """Return the command of a call: its script by SHA, or the plain command."""
    if call.script is None:
        return call.args
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def by_text(call: AnyCall) -> Command:
    """Return the same with the script's text, for a server that lacks it (NOSCRIPT: nothing was executed)."""
    if call.script is None:
        return call.args
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.args)


def in_one_write(call: AnyCall, command: Command, *, asking: bool) -> list[Command]:
    """Return all commands of a call: ASKING if a node asked for it, the call, and its confirmation."""
    before: list[Command] = [("ASKING",)] if asking else []
    return [*before, command, *(() if call.confirm is None else (call.confirm,))]


def reply_to(call: AnyCall, replies: Sequence[object]) -> object:
    """Return the reply to a call that was sent by `in_one_write`; both replies if it is confirmed.

    Raises the call's error, and any error that ended the connection. An error reply to the confirmation is
    returned: the call's parser reads it.
    """
    for reply in replies:
        if isinstance(reply, BaseException) and not isinstance(reply, lib.ResponseError):
            raise reply
    own, *confirmation = replies[-1 if call.confirm is None else -2 :]
    if isinstance(own, BaseException):
        raise own
    return (own, confirmation[0]) if confirmation else own
