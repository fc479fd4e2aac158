"""What sync and async connections have in common: how one is made, and what a Call says on it.

Owns the settings of the client library: its own retries are off (it would resend what already ran),
RESP2 is pinned and replies stay raw bytes, so that they look the same whatever the library's version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from redis import exceptions as lib

from streamq.calls import Call
from streamq.transport.address import Address


def _installed() -> Any:
    try:
        import hiredis  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return hiredis


hiredis: Final[Any] = _installed()

CONNECT_TIMEOUT: Final = 3.0
COMMAND_TIMEOUT: Final = 5.0
CONNECTIONS: Final = 32
"""To one server at most, of those that calls share: who comes then waits for one. Idle ones are kept."""

HURRIED: Final = {"socket_connect_timeout": 1.0, "socket_timeout": 2.0}
"""For questions that another server can answer as well."""

INFO: Final = ("INFO",)
_FILES: Final = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}


def settings(address: Address) -> dict[str, Any]:
    """Keyword arguments for a connection of the client library; raises its ConnectionError where a file
    for TLS cannot be read, which may be there again at the next try."""
    base = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": COMMAND_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
        "client_name": "streamq",
    }
    if address.kind in ("tcp", "tls"):
        base["socket_keepalive"] = True
    for name in _FILES & address.arguments.keys():
        _check_file(name, address.arguments[name])
    return base | address.arguments


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
