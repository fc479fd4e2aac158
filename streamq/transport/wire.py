"""What sync and async connections have in common: how one is made, and what a Call says on it.

Owns the settings of the client library: its own retries are off (it would resend what already ran),
RESP2 is pinned and replies stay raw bytes, so that they look the same whatever the library's version. Owns
the login, which the library does not do: it says more than the server needs, and may not be allowed to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from redis import exceptions as lib

from streamq.calls.call import Call
from streamq.transport.address import Address


def _installed() -> Any:
    try:
        import hiredis  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return hiredis


hiredis: Final[Any] = _installed()
ProtocolError: Final[Any] = hiredis.ProtocolError if hiredis else lib.InvalidResponse

CONNECT_TIMEOUT: Final = 3.0
COMMAND_TIMEOUT: Final = 5.0
CONNECTIONS: Final = 32
"""To one server at most, of those that calls share: who comes then waits for one. Idle ones are kept."""

HURRIED: Final = {"socket_connect_timeout": 1.0, "socket_timeout": 2.0}
"""For questions that another server can answer as well."""

INFO: Final = ("INFO",)
_FILES: Final = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}


_OURS: Final = ("username", "password", "db", "client_name")
"""What the login is made of."""


def settings(address: Address) -> dict[str, Any]:
    """Keyword arguments for a connection of the client library; raises its ConnectionError where a file
    for TLS cannot be read, which may be there again at the next try."""
    base = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": COMMAND_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
    }
    if address.kind in ("tcp", "tls"):
        base["socket_keepalive"] = True
    for name in _FILES & address.arguments.keys():
        _check_file(name, address.arguments[name])
    return base | {name: value for name, value in address.arguments.items() if name not in _OURS}


def reply_timeout(address: Address) -> float:
    """Seconds that an answer may take."""
    return float(address.arguments.get("socket_timeout", COMMAND_TIMEOUT))


def login(address: Address) -> list[tuple[Any, ...]]:
    """The commands that a connection begins with. The answer to each is one line; `welcome` judges it."""
    given = address.arguments
    commands: list[tuple[Any, ...]] = []
    if given.get("username") or given.get("password"):
        name = [given["username"]] if given.get("username") else []
        commands.append(("AUTH", *name, given.get("password", "")))
    if given.get("db"):
        commands.append(("SELECT", given["db"]))
    # Last: it is for whoever looks at the server, and some take no CLIENT.
    return [*commands, ("CLIENT", "SETNAME", given.get("client_name", "streamq"))]


def pack(commands: Iterable[tuple[Any, ...]]) -> bytes:
    """Commands as they go over the wire."""
    return b"".join(map(packed, commands))


def _packed(command: tuple[Any, ...]) -> bytes:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)))


packed: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command if hiredis else _packed
"""One command as it goes over the wire."""

LONGEST_LINE: Final = 4096
_FATAL: Final = ("-NOAUTH", "-WRONGPASS", "-DENIED", "-ERR max number of clients")


def welcome(command: tuple[Any, ...], line: bytes) -> None:
    """Raise the client library's error where the answer to a command of the login is not a good one."""
    if not line.endswith(b"\n"):
        raise lib.ConnectionError(CLOSED_AT_ONCE if not line else f"{NO_REDIS} {line[:40]!r}")
    if line[:1] not in b"+-":
        raise lib.InvalidResponse(f"{NO_REDIS} {line[:40].strip()!r}")
    text = line.decode("utf-8", "replace").strip()
    if text.startswith(_FATAL) or (text[:1] == "-" and command[0] != "CLIENT"):
        raise lib.ResponseError(text[1:])


ALL_BUSY: Final = f"all {CONNECTIONS} connections of this program are busy"
CLOSED_AT_ONCE: Final = "the connection was closed before anything was answered"
SILENT: Final = "it took the connection and answers nothing"
NO_REDIS: Final = "what answers there is no Redis server; it says"


def _check_file(name: str, path: str) -> None:
    """The library would say no more than "No such file or directory"."""
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise lib.ConnectionError(f"{name}={path} in the server URL: {error.strerror}") from None


def by_sha(call: Call[Any]) -> tuple[Any, ...]:
    """The command for a call: the script by its SHA, or the plain command."""
    if call.script is None:
        return call.args
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def by_text(call: Call[Any]) -> tuple[Any, ...]:
    """The same with the script's text, for a server that does not have it (NOSCRIPT: nothing ran)."""
    if call.script is None:
        return call.args
    return ("EVAL", call.script.text, len(call.keys), *call.keys, *call.args)


def both(replies: list[Any]) -> tuple[Any, Any]:
    """The replies to a call and to the command that confirms it. Raises the first's error, and whatever
    ended the connection; an error that the second was answered with is for the call to read."""
    for reply in replies:
        if isinstance(reply, BaseException) and not isinstance(reply, lib.ResponseError):
            raise reply
    first, second = replies[-2:]  # before them, at most, the answer to ASKING
    if isinstance(first, BaseException):
        raise first
    return first, second
