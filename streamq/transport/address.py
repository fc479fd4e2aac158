"""Where the servers are: an address is a parsed URL, or one of the servers behind it.

Owns what a connection is made with: see `url` for the grammar. Must never show a password: `str()` of an
address is safe to log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from streamq import environment
from streamq.environment import URL, Source
from streamq.errors import InvalidURL, UsageError
from streamq.namespace import DEFAULT_PREFIX, Namespace, check_prefix
from streamq.transport import url as grammar
from streamq.transport.url import OPTIONS, SENTINEL_OPTIONS, TLS, HostPort, Parts

_SOURCES: Final[dict[Source, str]] = {
    "option": "--url",
    "code": "the code, StreamQ(url=…)",
    "environment": URL.name,
    "default": f"streamq's default, as {URL.name} is not set",
}
_LOGIN: Final = ("username", "password", "db")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL, or one server of those behind it.

    kind: tcp, tls, unix, embedded, sentinel or cluster. arguments: for a connection to a server that holds
    data. seeds: the sentinels, or the nodes of a cluster that are asked first. service: the sentinels' name
    for the master. prefix: the start of the names of all keys. source: where the URL comes from, in words, if
    that is known.
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
        """The prefix and the database of the keys."""
        return Namespace(self.prefix, self.arguments.get("db", 0))

    @classmethod
    def parse(cls, url: str, source: Source | None = None, *, prefix: str | None = None) -> Address:
        """Read a URL. Raises InvalidURL, which names the fault and the accepted forms. The prefix defaults to
        STREAMQ_PREFIX."""
        prefix = check_prefix(environment.PREFIX.get() if prefix is None else prefix)
        found = replace(cls._parse(url), prefix=prefix)
        return found if source is None else replace(found, source=_SOURCES[source])

    @classmethod
    def _parse(cls, url: str) -> Address:
        parts = grammar.split(url)
        if parts.scheme == "embedded":
            return _embedded(parts)
        if parts.scheme == "unix":
            return _unix(parts)
        read = {"": _tcp, "sentinel": _sentinel, "cluster": _cluster}[grammar.check_scheme(parts)]
        return read(parts, TLS[parts.scheme.partition("+")[0]])

    def node(self, host: str, port: int) -> Address:
        """Return the address of one server behind this one, with the same arguments."""
        return _server(self, host, port, self.arguments)

    def start_embedded(self) -> str:
        """Start the embedded server unless it runs; return the URL of its socket, which child processes use
        so that they do not start servers of their own."""
        try:
            from streamq import embedded  # noqa: PLC0415 - most programs never embed a server
        except ModuleNotFoundError as error:
            if error.name != "fcntl":
                raise
            raise UsageError(
                "embedded:// needs Linux or macOS. Start a server in a container or in WSL, and name it with "
                "STREAMQ_URL=redis://localhost:6379"
            ) from None

        return embedded.shared(self.data_dir).url

    def resolve(self) -> Address:
        """Return the address to connect to. Starts the server of an embedded address."""
        if self.kind != "embedded":
            return self
        return replace(Address.parse(self.start_embedded()), source=self.source)


def _server(whole: Address, host: str, port: int, arguments: dict[str, Any]) -> Address:
    shown = f"{_shown_host(host)}:{port} of {whole.shown}"
    kind = "tls" if whole.tls else "tcp"
    return Address(kind, shown, arguments | {"host": host, "port": port}, tls=whole.tls)


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _embedded(parts: Parts) -> Address:
    if parts.hosts or parts.login or parts.query:
        raise InvalidURL(
            "invalid server URL: an embedded server has no host, login or option. Write embedded:// "
            "(private) or embedded:///path (data is kept there)"
        )
    path = Path(grammar.path(parts)) if parts.path.strip("/") else None
    return Address("embedded", f"embedded://{path or ''}", {}, path)


def _unix(parts: Parts) -> Address:
    if not parts.path.strip("/") or parts.hosts:
        raise InvalidURL("invalid server URL: a unix URL needs a path. Write unix:///path/to.sock")
    path = grammar.path(parts)
    arguments = grammar.login(parts) | {"path": path} | grammar.query(parts, OPTIONS)
    return Address("unix", f"unix://{path}", arguments)


def _tcp(parts: Parts, tls: bool) -> Address:
    hosts = grammar.hosts(parts, 6379)
    if len(hosts) > 1:
        raise InvalidURL(
            "invalid server URL: several hosts are a cluster or sentinels. Write "
            f"{parts.scheme}+cluster://… or {parts.scheme}+sentinel://…/mymaster"
        )
    [(host, port)] = hosts
    database = grammar.database(parts.path.strip("/"))
    found = grammar.login(parts) | {"host": host, "port": port, "db": database}
    found |= grammar.query(parts, OPTIONS)
    shown = f"{parts.scheme}://{_shown_host(host)}:{port}/{found['db']}"
    return Address("tls" if tls else "tcp", shown, found, tls=tls)


def _sentinel(parts: Parts, tls: bool) -> Address:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise InvalidURL(
            "invalid server URL: a Sentinel URL names the master after the hosts. Write "
            f"{parts.scheme}://h1:26379,h2:26379/mymaster/0"
        )
    query = grammar.query(parts, SENTINEL_OPTIONS)
    login = {name: query.pop(f"sentinel_{name}") for name in _LOGIN if f"sentinel_{name}" in query}
    found = grammar.login(parts) | {"db": grammar.database(database)} | query
    hosts = grammar.hosts(parts, 26379)
    name = unquote(service)
    shown_name = name if name.isprintable() else repr(name)
    shown = f"{parts.scheme}://{_shown_hosts(hosts)}/{shown_name}/{found['db']}"
    whole = Address("sentinel", shown, found, service=name, tls=tls)
    theirs = {option: value for option, value in found.items() if option not in _LOGIN} | login
    return _with_seeds(whole, hosts, theirs)


def _cluster(parts: Parts, tls: bool) -> Address:
    found = grammar.login(parts) | grammar.query(parts, OPTIONS)
    database = grammar.database(parts.path.strip("/")) or found.pop("db", 0)
    if database:
        raise InvalidURL("invalid server URL: a cluster has database 0 only. Leave the database out")
    hosts = grammar.hosts(parts, 6379)
    whole = Address("cluster", f"{parts.scheme}://{_shown_hosts(hosts)}", found, tls=tls)
    return _with_seeds(whole, hosts, found)


def _with_seeds(whole: Address, hosts: list[HostPort], arguments: dict[str, Any]) -> Address:
    seeds = tuple(_server(whole, host, port, arguments) for host, port in hosts)
    return replace(whole, seeds=seeds)


def _shown_hosts(hosts: list[HostPort]) -> str:
    return ",".join(f"{_shown_host(host)}:{port}" for host, port in hosts)
