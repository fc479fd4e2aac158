"""Where the server is: one grammar for URLs.

Owns the reading of URLs and the arguments that a connection is made with. Never shows a password:
`str()` of an address is safe to log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamq.errors import InvalidURL
from streamq.options import reject_unknown

FORMS: Final = (
    "redis://host:6379/0, rediss://… (TLS), valkey://…, valkeys://…, unix:///path/to.sock, "
    "embedded:// or embedded:///path"
)
_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}


def _certificates(value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise ValueError(value)
    return value


_QUERY: Final[dict[str, Callable[[str], Any]]] = {
    "db": int,
    "username": str,
    "password": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "client_name": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _certificates,
}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. `kind` is tcp, tls, unix or embedded; `arguments` are for the connection."""

    kind: str
    shown: str
    arguments: dict[str, Any] = field(repr=False, hash=False)
    data_dir: Path | None = None

    def __str__(self) -> str:
        return self.shown

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL; InvalidURL names the fault and the forms that are understood."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidURL(f"the server URL is malformed ({error}); write {FORMS}") from None
        if parts.scheme == "embedded":
            return _embedded(parts)
        arguments = _query(parts)
        if parts.scheme == "unix":
            return _unix(parts, arguments)
        if parts.scheme not in _TLS:
            shown = f"{parts.scheme}://" if parts.scheme else repr(url[:40])
            raise InvalidURL(f"{shown} is no server URL that streamq knows; write {FORMS}")
        return _tcp(parts, port, arguments)

    @property
    def socket_url(self) -> str:
        """The URL of an embedded server's socket, for child processes that must not start their own."""
        from streamq import embedded  # noqa: PLC0415 - most programs never embed a server

        return embedded.shared(self.data_dir).url

    def resolve(self) -> Address:
        """The address to connect to: starts the embedded server where that is what was asked for."""
        if self.kind != "embedded":
            return self
        return Address.parse(self.socket_url)


def _embedded(parts: SplitResult) -> Address:
    if parts.netloc or parts.query:
        raise InvalidURL("an embedded server is embedded:// (private) or embedded:///path (kept there)")
    path = Path(unquote(parts.path)) if parts.path.strip("/") else None
    return Address("embedded", f"embedded://{path or ''}", {}, path)


def _unix(parts: SplitResult, arguments: dict[str, Any]) -> Address:
    if not parts.path:
        raise InvalidURL("a unix URL needs a path: unix:///path/to.sock")
    path = unquote(parts.path)
    return Address("unix", f"unix://{path}", _login(parts) | {"path": path} | arguments)


def _tcp(parts: SplitResult, port: int | None, arguments: dict[str, Any]) -> Address:
    if "," in parts.netloc:
        raise InvalidURL(f"several hosts in one URL are not understood; write {FORMS}")
    tls = _TLS[parts.scheme]
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise InvalidURL(f"the database in a server URL is a number, not {database[:40]!r}; write {FORMS}")
    host = parts.hostname or "localhost"
    found = _login(parts) | {"host": host, "port": port or 6379, "db": int(database or 0)} | arguments
    shown = f"{parts.scheme}://{host}:{found['port']}/{found['db']}"
    return Address("tls" if tls else "tcp", shown, found)


def _login(parts: SplitResult) -> dict[str, Any]:
    login: dict[str, Any] = {}
    if parts.username:
        login["username"] = unquote(parts.username)
    if parts.password:
        login["password"] = unquote(parts.password)
    return login


def _query(parts: SplitResult) -> dict[str, Any]:
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    reject_unknown(given, _QUERY, "the server URL")
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = _QUERY[name](value)
        except ValueError:
            raise InvalidURL(f"{name}={value!r} in the server URL is not a value it can have") from None
    return found


def from_environment() -> str:
    """The URL that STREAMQ_URL names; the usual local server where it is not set."""
    return os.environ.get("STREAMQ_URL") or "redis://localhost:6379/0"
