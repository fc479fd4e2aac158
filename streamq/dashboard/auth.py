"""Authentication and roles.

Owns principals, roles and the built-in ways to authenticate a request. Each is a callable that takes the
request and returns a Principal, or None if it does not recognise the credentials. No request is trusted for
its origin or for what it lacks: every way but `Anyone` requires a secret. Secrets are compared in constant
time.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib
import ipaddress
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from streamq.errors import UsageError

Role = Literal["viewer", "operator", "admin"]
_KINDS: Final = ("basic", "bearer", "header", "call", "none")
ROLES: Final[tuple[Role, ...]] = get_args(Role)
REQUIRED_ROLE: Final[dict[str, Role]] = {
    "pause": "operator",
    "resume": "operator",
    "cancel": "operator",
    "run-now": "operator",
    "requeue": "operator",
    "drain": "operator",
    "dismiss": "operator",
    "pause-schedule": "operator",
    "resume-schedule": "operator",
    "run-schedule": "operator",
    "cancel-flow": "operator",
    "retry-flow": "operator",
    "purge": "admin",
    "forget": "admin",
    "remove-schedule": "admin",
    "resubmit": "admin",
}
"""The least role for each action."""
READS_SEALED: Final[Role] = "admin"
"""The least role that sees what is sealed, where the dashboard has the key ring."""
UNIX: Final = "unix"
"""The address of a peer on a unix socket."""


class Request(Protocol):
    """The part of a request that authentication reads."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def client(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated user: the name that the action log shows, and the role."""

    name: str
    role: Role = "viewer"

    def may(self, action: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(REQUIRED_ROLE[action])

    @property
    def reads_sealed(self) -> bool:
        """Whether it may see what is sealed."""
        return ROLES.index(self.role) >= ROLES.index(READS_SEALED)


@dataclass(frozen=True, slots=True)
class Basic:
    """User name and password, as browsers prompt for them. Use TLS unless it is on loopback."""

    user: str
    password: str
    role: Role = "admin"

    def __call__(self, request: Request) -> Principal | None:
        given = _credentials(request, "basic")
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
        # Both are always compared, so that the time reveals nothing.
        equal = [_same(name, self.user), _same(password, self.password)]
        return Principal(self.user, self.role) if all(equal) else None


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token in the Authorization header, for programs."""

    token: str
    role: Role = "viewer"
    name: str = "bearer"

    def __call__(self, request: Request) -> Principal | None:
        return Principal(self.name, self.role) if _same(_credentials(request, "bearer"), self.token) else None


@dataclass(frozen=True, slots=True)
class Header:
    """The user name that an authenticating proxy puts into a header (oauth2-proxy, an identity-aware proxy).

    proxies: the addresses or networks of trusted proxies, such as "10.0.0.7" or "10.1.0.0/16", or "unix" for
        a proxy that connects over a unix socket. The header is ignored from any other peer. Every program on
        such a host can claim any name, and the proxy must remove the header from incoming requests.
    roles: the roles of some names, instead of `role`.
    """

    header: str
    role: Role = "viewer"
    roles: Mapping[str, Role] | None = None
    proxies: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.proxies, str) or not self.proxies:
            raise UsageError(
                f"Header({self.header!r}) would be trusted from every peer: name the trusted proxies, as "
                'proxies=["10.0.0.7"] (on the command line --proxy 10.0.0.7)'
            )
        for one in self.proxies:
            network(one)

    def __call__(self, request: Request) -> Principal | None:
        if not comes_from(request, self.proxies):
            return None
        name = request.headers.get(self.header.lower(), "").strip()[:200]
        return Principal(name, (self.roles or {}).get(name, self.role)) if name else None


class LoginLink:
    """A link that logs in one browser, once: the login of a dashboard without `auth`.

    The first browser that opens it gets a session and uses up its token; then there is a new one. `announce`
    is called with each new token and prints it on the program's terminal.
    """

    def __init__(self, announce: Callable[[str], None] | None = None, role: Role = "admin") -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self.role: Role = role
        self.link_token: str = secrets.token_urlsafe(32)

    def __call__(self, request: Request) -> Principal | None:
        """Return None: requests are authenticated by the session that the link opens, not by the link."""
        del request
        return None

    def redeem(self, given: str) -> Principal | None:
        """Return the principal for this token, and replace the token; None if it is wrong or used up."""
        with self._lock:
            if not _same(given, self.link_token):
                return None
            self.link_token = secrets.token_urlsafe(32)
        if self._announce is not None:
            self._announce(self.link_token)
        return Principal("local", self.role)


@dataclass(frozen=True, slots=True)
class Anyone:
    """Accept every request: for a mounted dashboard whose host application authenticates."""

    role: Role = "viewer"
    name: str = "anyone"

    def __call__(self, request: Request) -> Principal | None:
        del request
        return Principal(self.name, self.role)


Auth = Callable[[Any], Principal | Awaitable[Principal | None] | None]
"""An entry: an instance of these classes or another callable that takes the request."""


def _credentials(request: Request, scheme: str) -> str:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == scheme else ""


def _same(given: str, right: str) -> bool:
    return bool(right) and hmac.compare_digest(given.encode(), right.encode())


def peer(request: Request) -> str:
    """Return the address of a request's peer, without its port: an IP address, or "unix"."""
    host = getattr(request.client, "host", None) or UNIX
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    return str(getattr(address, "ipv4_mapped", None) or address)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse the address or network of a proxy; return None for "unix". Raise UsageError."""
    if text == UNIX:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(
            f"invalid proxy address {text!r}: {error}. Use an address, a network such as 10.0.0.0/8, or "
            '"unix"'
        ) from None


def comes_from(request: Request, proxies: Sequence[str]) -> bool:
    """Return whether the request's peer is one of these proxies."""
    address = peer(request)
    for one in proxies:
        known = network(one)
        if known is None:
            if address == UNIX:
                return True
            continue
        try:
            if ipaddress.ip_address(address) in known:
                return True
        except ValueError:
            continue
    return False


def parse(text: str, proxies: Sequence[str] = ()) -> Auth:
    """Return an entry from its text. Raise UsageError, which names the forms and repeats no secret.

    `basic:USER:PASSWORD[:ROLE]`, `bearer:TOKEN[:ROLE]`, `header:NAME[:ROLE]`, `call:MODULE:NAME`, `none`; a
    password or token may be `@FILE`, or `$NAME` for an environment variable. `proxies` are those of a header.
    """
    kind, _, rest = text.partition(":")
    parts = rest.split(":")
    try:
        match kind, parts:
            case "basic", [user, password, *role] if user and len(role) <= 1:
                return Basic(user, _secret(password), _role(role, "admin"))
            case "bearer", [token, *role] if len(role) <= 1:
                return Bearer(_secret(token), _role(role, "viewer"))
            case "header", [name, *role] if name and len(role) <= 1:
                return Header(name, _role(role, "viewer"), proxies=proxies)
            case "call", [module, name]:
                found: Auth = getattr(importlib.import_module(module), name)
                return found
            case "none", [""] if text == "none":
                return Anyone("admin")
            case _:
                pass
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise UsageError(f"--auth {kind}:…: {_without_secret(error)}") from None
    # The text may be a password without its kind: only a known kind is repeated.
    named = f"{kind}:…" if kind in _KINDS else "…"
    raise UsageError(
        f"--auth {named} is invalid: use basic:USER:PASSWORD[:ROLE], bearer:TOKEN[:ROLE], "
        f"header:NAME[:ROLE], call:MODULE:NAME or none, with one of the roles {', '.join(ROLES)}"
    )


def _without_secret(error: Exception) -> str:
    """Return the reason without the given text: it may contain a password that was meant to follow "@"."""
    if isinstance(error, OSError):
        return f"the file cannot be read ({error.strerror or type(error).__name__})"
    if isinstance(error, ValueError):
        return "the file's name or text cannot be read as UTF-8"
    return str(error)


def _role(given: list[str], default: Role) -> Role:
    if not given:
        return default
    for role in ROLES:
        if given[0] == role:
            return role
    # The text may be the rest of a password with a colon in it, so it is not repeated.
    raise UsageError(
        f"--auth: unknown role after the last colon: use {', '.join(ROLES)}. "
        "Put a password with a colon into a file: @FILE"
    )


def _secret(text: str) -> str:
    secret = text
    if text.startswith("@"):
        secret = Path(text[1:]).read_text("utf-8").strip()
    elif text.startswith("$"):
        secret = os.environ.get(text[1:], "")
        if not secret:
            raise UsageError(f"--auth: the environment variable {text[1:]} is not set")
    if len(secret) < 8:
        raise UsageError("--auth: the password or token is too short: use at least 8 characters")
    return secret
