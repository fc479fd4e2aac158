"""Where the servers are: one grammar for URLs.

Owns the reading of URLs and the arguments that a connection is made with. Never shows a password:
`str()` of an address is safe to log, and an error repeats nothing of a URL that cannot be read: any part of
it may be a password that lacks its @ or its percent-encoding.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from streamq import environment
from streamq.environment import URL, Source
from streamq.errors import InvalidURL
from streamq.namespace import DEFAULT_PREFIX, Namespace, check_prefix
from streamq.options.checks import seconds

FORMS: Final = (
    "redis://host:6379/0, rediss://… (TLS), valkey://…, valkeys://…, unix:///path/to.sock, "
    "redis+sentinel://h1:26379,h2:26379/mymaster/0, redis+cluster://h1:7000,h2:7001, "
    "rediss+sentinel://… and rediss+cluster://… (TLS), embedded:// or embedded:///path"
)
_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_OURS: Final = (*_TLS, "unix", "embedded")
_FOREIGN: Final = (
    "amqp", "amqps", "file", "ftp", "http", "https", "kafka", "memcached", "mongodb", "mysql", "nats",
    "postgres", "postgresql", "sqs", "tcp", "tls",
)  # fmt: skip
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?")


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


_QUERY: Final[dict[str, Callable[[str], Any]]] = {
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
_SENTINEL_QUERY: Final = _QUERY | {"sentinel_username": str, "sentinel_password": str}
_SOURCES: Final[dict[Source, str]] = {
    "option": "--url",
    "code": "the code, StreamQ(url=…)",
    "environment": URL.name,
    "default": f"streamq, as {URL.name} is not set",
}
_LOGIN: Final = ("username", "password", "db")


@dataclass(frozen=True, slots=True)
class _Parts:
    """A URL in its parts, still as written."""

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL, or one server of those behind it.

    kind: tcp, tls, unix, embedded, sentinel or cluster. `arguments` are for a connection to a server
    that holds data. seeds: the sentinels, or the nodes of a cluster that are asked first. service: the
    name by which the sentinels know the master. prefix: what the names of all keys begin with. source: where
    the URL is from, in words, if that is known.
    """

    kind: str
    shown: str
    arguments: dict[str, Any] = field(repr=False, hash=False)
    data_dir: Path | None = None
    seeds: tuple[Address, ...] = ()
    service: str = ""
    tls: bool = False
    prefix: str = DEFAULT_PREFIX
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.shown

    @property
    def namespace(self) -> Namespace:
        """Where on the server the keys are."""
        return Namespace(self.prefix, self.arguments.get("db", 0))

    @classmethod
    def parse(cls, url: str, source: Source | None = None, *, prefix: str | None = None) -> Address:
        """Read a URL; InvalidURL names the fault and the forms that are understood. Without a prefix, that
        of STREAMQ_PREFIX counts."""
        prefix = check_prefix(environment.PREFIX.get() if prefix is None else prefix)
        found = replace(cls._parse(url), prefix=prefix)
        return found if source is None else replace(found, source=_SOURCES[source])

    @classmethod
    def _parse(cls, url: str) -> Address:
        parts = _split(url)
        if parts.scheme == "embedded":
            return _embedded(parts)
        if parts.scheme == "unix":
            return _unix(parts)
        base, _, kind = parts.scheme.partition("+")
        if base not in _TLS or kind not in ("", "sentinel", "cluster"):
            raise InvalidURL(f"{_named(parts.scheme)} is no server URL that streamq knows; write {FORMS}")
        if "@" in parts.path:  # it would be shown as a database
            raise InvalidURL("a password with / in it is written with %2F in a server URL")
        read = {"": _tcp, "sentinel": _sentinel, "cluster": _cluster}[kind]
        return read(parts, _TLS[base])

    def node(self, host: str, port: int) -> Address:
        """One server behind this address, reached with the same arguments."""
        return _server(self, host, port, self.arguments)

    @property
    def socket_url(self) -> str:
        """The URL of an embedded server's socket, for child processes that must not start their own."""
        from streamq import embedded  # noqa: PLC0415 - most programs never embed a server

        return embedded.shared(self.data_dir).url

    def resolve(self) -> Address:
        """The address to connect to: starts the embedded server where that is what was asked for."""
        if self.kind != "embedded":
            return self
        return replace(Address.parse(self.socket_url), source=self.source)


def _server(whole: Address, host: str, port: int, arguments: dict[str, Any]) -> Address:
    shown = f"{_host_shown(host)}:{port} of {whole.shown}"
    kind = "tls" if whole.tls else "tcp"
    return Address(kind, shown, arguments | {"host": host, "port": port}, tls=whole.tls)


def _host_shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _split(url: str) -> _Parts:
    match = _URL.match(url) if isinstance(url, str) else None  # type: ignore[redundant-expr]
    if match is None:
        # What is before a colon may be a password: it is not shown.
        raise InvalidURL(f"a text without a scheme is no server URL; write {FORMS}")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in url):
        raise InvalidURL("the server URL has a control character in it, such as a line break")
    if match.end() < len(url):
        raise InvalidURL("a server URL has no #: what is special in a password is percent-encoded, # as %23")
    scheme, authority, path, query = match.groups()
    login, _, hosts = authority.rpartition("@")
    return _Parts(scheme.lower(), login, hosts, path, query or "")


def _embedded(parts: _Parts) -> Address:
    if parts.hosts or parts.login or parts.query:
        raise InvalidURL("an embedded server is embedded:// (private) or embedded:///path (kept there)")
    path = Path(_path(parts)) if parts.path.strip("/") else None
    return Address("embedded", f"embedded://{path or ''}", {}, path)


def _unix(parts: _Parts) -> Address:
    if not parts.path.strip("/") or parts.hosts:
        raise InvalidURL("a unix URL needs a path: unix:///path/to.sock")
    path = _path(parts)
    return Address("unix", f"unix://{path}", _login(parts) | {"path": path} | _query(parts, _QUERY))


def _path(parts: _Parts) -> str:
    path = unquote(parts.path)
    if "\0" in path:
        raise InvalidURL("the path in the server URL has a zero byte in it")
    return path


def _tcp(parts: _Parts, tls: bool) -> Address:
    hosts = _hosts(parts, 6379)
    if len(hosts) > 1:
        raise InvalidURL(
            f"several hosts are a cluster or sentinels: write {parts.scheme}+cluster://… or "
            f"{parts.scheme}+sentinel://…/mymaster"
        )
    [(host, port)] = hosts
    found = _login(parts) | {"host": host, "port": port, "db": _database(parts.path.strip("/"))}
    found |= _query(parts, _QUERY)
    shown = f"{parts.scheme}://{_host_shown(host)}:{port}/{found['db']}"
    return Address("tls" if tls else "tcp", shown, found, tls=tls)


def _sentinel(parts: _Parts, tls: bool) -> Address:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise InvalidURL(
            f"a Sentinel URL names the master after the hosts: {parts.scheme}://h1:26379,h2:26379/mymaster/0"
        )
    query = _query(parts, _SENTINEL_QUERY)
    login = {name: query.pop(f"sentinel_{name}") for name in _LOGIN if f"sentinel_{name}" in query}
    found = _login(parts) | {"db": _database(database)} | query
    hosts = _hosts(parts, 26379)
    name = unquote(service)
    shown = f"{parts.scheme}://{_hosts_shown(hosts)}/{_plain(name)}/{found['db']}"
    whole = Address("sentinel", shown, found, service=name, tls=tls)
    theirs = {option: value for option, value in found.items() if option not in _LOGIN} | login
    return _with_seeds(whole, hosts, theirs)


def _cluster(parts: _Parts, tls: bool) -> Address:
    found = _login(parts) | _query(parts, _QUERY)
    database = _database(parts.path.strip("/")) or found.pop("db", 0)
    if database:
        raise InvalidURL("a cluster has database 0 only: leave it out of the URL")
    hosts = _hosts(parts, 6379)
    whole = Address("cluster", f"{parts.scheme}://{_hosts_shown(hosts)}", found, tls=tls)
    return _with_seeds(whole, hosts, found)


def _with_seeds(whole: Address, hosts: list[tuple[str, int]], arguments: dict[str, Any]) -> Address:
    seeds = tuple(_server(whole, host, port, arguments) for host, port in hosts)
    return Address(whole.kind, whole.shown, whole.arguments, None, seeds, whole.service, whole.tls)


def _hosts(parts: _Parts, port: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for n, text in enumerate(parts.hosts.split(","), 1):
        match = _HOST.fullmatch(text)
        if match is None:
            # The text is not shown: where an @ is missing it is a password.
            raise InvalidURL(
                f"host {n} in the server URL is malformed: write host:port or [IPv6 address]:port, and "
                "percent-encode what is special in a password"
            )
        found.append(_host(match[1], match[2], match[3], port))
    return found


def _host(address: str | None, name: str | None, digits: str | None, default: int) -> tuple[str, int]:
    port = default if digits is None else int(digits)
    if not 1 <= port <= 65535:
        raise InvalidURL("the port in a server URL is a number from 1 to 65535")
    if address is None:
        if not all(0 < len(label) < 64 for label in (name or "localhost").removesuffix(".").split(".")):
            raise InvalidURL("a host in the server URL has an empty or too long part between its dots")
        return name or "localhost", port
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise InvalidURL("what is in brackets in the server URL is no IPv6 address") from None
    return address, port


def _hosts_shown(hosts: list[tuple[str, int]]) -> str:
    return ",".join(f"{_host_shown(host)}:{port}" for host, port in hosts)


def _plain(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _database(text: str) -> int:
    try:
        return _number(text or "0")
    except ValueError:
        raise InvalidURL(f"the database in a server URL is a number; write {FORMS}") from None


def _login(parts: _Parts) -> dict[str, Any]:
    username, _, password = parts.login.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _query(parts: _Parts, known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for number, name in enumerate(given, 1):
        if name not in known:
            raise InvalidURL(_unknown(name, number, known))
    encrypted = _TLS.get(parts.scheme.partition("+")[0], False)
    if not encrypted and (misplaced := [name for name in given if name.startswith("ssl_")]):
        raise InvalidURL(f"{misplaced[0]} in the server URL is for TLS: write rediss:// or valkeys://")
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = known[name](value)
        except ValueError:
            raise InvalidURL(f"what {name} is in the server URL is not a value it can have") from None
    return found


def _unknown(name: str, number: int, known: Iterable[str]) -> str:
    """What to write instead. The name is not repeated: behind a ? in a password it is the rest of that."""
    near = difflib.get_close_matches(name[:80], list(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    return f"the server URL has no such option as its number {number}: {hint} (a password's ? is %3F)"


def _named(scheme: str) -> str:
    """A scheme, where it surely is one and not what somebody has for a password."""
    return f"{scheme}://" if scheme in _FOREIGN or scheme.partition("+")[0] in _OURS else "this"
