"""The grammar of server URLs: scheme, login, hosts, path and query, each read or refused.

Owns the reading of the parts and the words for what is wrong with one. An error repeats no part of a URL that
cannot be read: any part may be a password that lacks its @ or its percent-encoding. Must not know what an
address is: see `address`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from streamq.errors import InvalidURL
from streamq.options.checks import seconds

FORMS: Final = (
    "redis://host:6379/0, rediss://… (TLS), valkey://…, valkeys://…, unix:///path/to.sock, "
    "redis+sentinel://h1:26379,h2:26379/mymaster/0, redis+cluster://h1:7000,h2:7001, "
    "rediss+sentinel://… and rediss+cluster://… (TLS), embedded:// or embedded:///path"
)
TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""The schemes of servers on the network, and whether they mean TLS."""
_KNOWN: Final = (*TLS, "unix", "embedded")
_OF_OTHERS: Final = (
    "amqp", "amqps", "file", "ftp", "http", "https", "kafka", "memcached", "mongodb", "mysql", "nats",
    "postgres", "postgresql", "sqs", "tcp", "tls",
)  # fmt: skip
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?")

HostPort = tuple[str, int]
Options = Mapping[str, Callable[[str], object]]
"""The options that a query may have, each with the function that reads its value."""


def _seconds(value: str) -> float:
    return seconds(value, "a timeout", least=0.001)


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise ValueError(value)
    return int(value)


def _certificates(value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise ValueError(value)
    return value


OPTIONS: Final[Options] = {
    "db": _number,
    "username": str,
    "password": str,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "client_name": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _certificates,
}
SENTINEL_OPTIONS: Final[Options] = {**OPTIONS, "sentinel_username": str, "sentinel_password": str}


class Parts(NamedTuple):
    """The parts of a URL, still as written."""

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


def split(url: str) -> Parts:
    """Return the parts of a URL. Raises InvalidURL."""
    match = _URL.match(url) if isinstance(url, str) else None  # type: ignore[redundant-expr]
    if match is None:
        # The text before a colon may be a password: it is not shown.
        raise InvalidURL(f"invalid server URL: it has no scheme. Write {FORMS}")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in url):
        raise InvalidURL("invalid server URL: it contains a control character, such as a line break")
    if match.end() < len(url):
        raise InvalidURL("invalid server URL: it contains a #. Percent-encode special characters, # as %23")
    scheme, authority, path, query = match.groups()
    login, _, hosts = authority.rpartition("@")
    return Parts(scheme.lower(), login, hosts, path, query or "")


def check_scheme(parts: Parts) -> str:
    """Return what the scheme says is there: '' (one server), sentinel or cluster. Raises InvalidURL."""
    base, _, kind = parts.scheme.partition("+")
    if base not in TLS or kind not in ("", "sentinel", "cluster"):
        raise InvalidURL(f"invalid server URL: unknown scheme{_shown_scheme(parts.scheme)}. Write {FORMS}")
    if "@" in parts.path:  # the password would be shown as a database
        raise InvalidURL("invalid server URL: it contains an unescaped /. Write a / in a password as %2F")
    return kind


def _shown_scheme(scheme: str) -> str:
    """Return a scheme if it is certainly one; other text may be a password."""
    certain = scheme in _OF_OTHERS or scheme.partition("+")[0] in _KNOWN
    return f" {scheme}://" if certain else ""


def path(parts: Parts) -> str:
    """Return the path of a file. Raises InvalidURL."""
    found = unquote(parts.path)
    if "\0" in found:
        raise InvalidURL("invalid server URL: its path contains a zero byte")
    return found


def hosts(parts: Parts, port: int) -> list[HostPort]:
    """Return the hosts with their ports; `port` is the default. Raises InvalidURL."""
    found: list[HostPort] = []
    for n, text in enumerate(parts.hosts.split(","), 1):
        match = _HOST.fullmatch(text)
        if match is None:
            # The text is not shown: without its @ this is a password.
            raise InvalidURL(
                f"invalid server URL: host {n} is malformed. Write host:port or [IPv6 address]:port, and "
                "percent-encode special characters in a password"
            )
        found.append(_host(match[1], match[2], match[3], port))
    return found


def _host(address: str | None, name: str | None, digits: str | None, default: int) -> HostPort:
    port = default if digits is None else int(digits)
    if not 1 <= port <= 65535:
        raise InvalidURL("invalid server URL: a port is a number from 1 to 65535")
    if address is None:
        if not all(0 < len(label) < 64 for label in (name or "localhost").removesuffix(".").split(".")):
            raise InvalidURL("invalid server URL: a host has an empty or too long part between its dots")
        return name or "localhost", port
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise InvalidURL("invalid server URL: the text in brackets is not an IPv6 address") from None
    return address, port


def database(text: str) -> int:
    """Return the number of a database. Raises InvalidURL."""
    try:
        return _number(text or "0")
    except ValueError:
        raise InvalidURL(f"invalid server URL: the database must be a number. Write {FORMS}") from None


def login(parts: Parts) -> dict[str, Any]:
    """Return the user name and the password, as far as they are given."""
    username, _, password = parts.login.partition(":")
    found = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def query(parts: Parts, known: Options) -> dict[str, Any]:
    """Return the options of the query. Raises InvalidURL."""
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for number, name in enumerate(given, 1):
        if name not in known:
            raise InvalidURL(_unknown_option(name, number, known))
    encrypted = TLS.get(parts.scheme.partition("+")[0], False)
    if not encrypted and (misplaced := [name for name in given if name.startswith("ssl_")]):
        raise InvalidURL(f"invalid server URL: {misplaced[0]} needs TLS. Write rediss:// or valkeys://")
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = known[name](value)
        except ValueError:
            raise InvalidURL(f"invalid server URL: {name} has an invalid value") from None
    return found


def _unknown_option(name: str, number: int, known: Iterable[str]) -> str:
    """Return the error text. The name is not repeated: after a ? in a password it is the rest of that."""
    import difflib  # noqa: PLC0415 - only for a mistake

    near = difflib.get_close_matches(name[:80], list(known), 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(sorted(known))}"
    return f"invalid server URL: its option number {number} is unknown. {hint} (a password's ? is %3F)"
