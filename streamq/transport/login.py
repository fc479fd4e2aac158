"""How a connection is configured and logged in, the same for sync and async ones.

Owns the settings of the client library: its own retries are off (it would resend commands that were already
executed), RESP2 is pinned and replies stay raw bytes, so that they are the same with every version of it.
Owns the login, which the library does not do: it sends more than the server needs, and may not be allowed to.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.wire import Command

CONNECT_TIMEOUT: Final = 3.0
SHORT_TIMEOUTS: Final = {"socket_connect_timeout": 1.0, "socket_timeout": 2.0}
"""For questions that another server can answer as well."""
LONGEST_LINE: Final = 4096
"""Bytes of a reply to a command of the login at most."""

CLOSED_AT_ONCE: Final = "the connection was closed before the server replied"
SILENT: Final = "the server accepted the connection but does not reply"
NO_REDIS: Final = "the peer is not a Redis server; it sent"

_NAMELESS: Final[dict[str, Any]] = (
    {"driver_info": None} if find_spec("redis.driver_info") else {"lib_name": None, "lib_version": None}
)
"""The library would read its own version from the files of its installation, 2 ms for each connection, to
tell it to the server; our login does not tell it."""
_FILES: Final = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_OF_LOGIN: Final = ("username", "password", "db", "client_name")
_FATAL: Final = ("-NOAUTH", "-WRONGPASS", "-DENIED", "-ERR max number of clients")


def settings(address: Address) -> dict[str, Any]:
    """Return the keyword arguments for a connection of the client library.

    Raises its ConnectionError if a file for TLS cannot be read; the file may be back at the next try.
    """
    base = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": wire.COMMAND_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
        **_NAMELESS,
    }
    if address.kind in ("tcp", "tls"):
        base["socket_keepalive"] = True
    for name in _FILES & address.arguments.keys():
        _check_file(name, str(address.arguments[name]))
    return base | {name: value for name, value in address.arguments.items() if name not in _OF_LOGIN}


def _check_file(name: str, path: str) -> None:
    """The library's own error is "No such file or directory", without the name."""
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise lib.ConnectionError(f"{name}={path} in the server URL: {error.strerror}") from None


def reply_timeout(address: Address) -> float:
    """Return how many seconds a reply may take."""
    return float(address.arguments.get("socket_timeout", wire.COMMAND_TIMEOUT))


def commands(address: Address) -> list[Command]:
    """Return the commands that a connection begins with. Each has a reply of one line, for `check_reply`."""
    given = address.arguments
    found: list[Command] = []
    if given.get("username") or given.get("password"):
        name = [given["username"]] if given.get("username") else []
        found.append(("AUTH", *name, given.get("password", "")))
    if given.get("db"):
        found.append(("SELECT", given["db"]))
    # Last: the name only helps an operator, and some servers refuse CLIENT.
    return [*found, ("CLIENT", "SETNAME", given.get("client_name", "streamq"))]


def check_reply(command: Command, line: bytes) -> None:
    """Raise the client library's error unless this reply to a command of the login is good."""
    if not line:
        raise lib.ConnectionError(CLOSED_AT_ONCE)
    if line[:1] not in b"+-":
        raise lib.InvalidResponse(f"{NO_REDIS} {line[:40].strip()!r}")
    if not line.endswith(b"\n"):
        raise lib.ConnectionError(f"the server closed the connection within its reply {line[:40]!r}")
    text = line.decode("utf-8", "replace").strip()
    if text.startswith(_FATAL) or (text[:1] == "-" and command[0] != "CLIENT"):
        raise lib.ResponseError(text[1:])
