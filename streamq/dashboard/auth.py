"""Who may come in, and what they may do.

Owns principals, roles and the built-in ways to tell who a request comes from. Each is a callable that takes
the request and returns a Principal, or None if it does not know them. Nobody is trusted for where a request
comes from or for what it lacks: each way but `Anyone` asks for a secret. Secrets are compared in constant
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from streamq.errors import UsageError

Role = Literal["viewer", "operator", "admin"]
_KINDS: Final = ("basic", "bearer", "header", "call", "none")
ROLES: Final[tuple[Role, ...]] = get_args(Role)
MAY: Final[dict[str, Role]] = {
    "pause": "operator",
    "resume": "operator",
    "cancel": "operator",
    "run-now": "operator",
    "requeue": "operator",
    "drain": "operator",
    "pause-schedule": "operator",
    "resume-schedule": "operator",
    "run-schedule": "operator",
    "purge": "admin",
    "forget": "admin",
    "remove-schedule": "admin",
    "resubmit": "admin",
}
"""The least role that may do each action."""
UNIX: Final = "unix"
"""The address of a peer that came over a unix socket."""


class Request(Protocol):
    """What is looked at of a request."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def client(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who came in: the name that the log of actions shows, and the role."""

    name: str
    role: Role = "viewer"

    def may(self, action: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(MAY[action])


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password, as browsers ask for them. Over anything but loopback this wants TLS."""

    user: str
    password: str
    role: Role = "admin"

    def __call__(self, request: Request) -> Principal | None:
        given = _credentials(request, "basic")
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
        # Both are compared whatever the first says, so that the time tells nothing.
        good = [_same(name, self.user), _same(password, self.password)]
        return Principal(self.user, self.role) if all(good) else None


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

    proxies: the addresses or networks of the proxies that may say it, such as "10.0.0.7" or "10.1.0.0/16", or
        "unix" for a proxy that connects over a unix socket. A header from any other peer is ignored. Every
        program on a host that is listed can claim any name, so the proxy must also strip the header from what
        comes in.
    roles: gives some names another role than `role`.
    """

    header: str
    role: Role = "viewer"
    roles: Mapping[str, Role] | None = None
    proxies: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.proxies, str) or not self.proxies:
            raise UsageError(
                f"Header({self.header!r}) would be believed from every peer: name the proxies that may say "
                'it, as proxies=["10.0.0.7"] (on the command line --proxy 10.0.0.7)'
            )
        for one in self.proxies:
            network(one)

    def __call__(self, request: Request) -> Principal | None:
        if not comes_from(request, self.proxies):
            return None
        name = request.headers.get(self.header.lower(), "").strip()[:200]
        return Principal(name, (self.roles or {}).get(name, self.role)) if name else None


class LoginLink:
    """A link that lets one browser in, once: the login of a dashboard that was given no other.

    The token in it is used up by the first browser that opens it, which gets a session; then there is a new
    one. `announce` is called with each new token and tells it to whoever sees the program's terminal.
    """

    def __init__(self, announce: Callable[[str], None] | None = None, role: Role = "admin") -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self.role: Role = role
        self.link_token: str = secrets.token_urlsafe(32)

    def __call__(self, request: Request) -> Principal | None:
        """Return None: a request does not come in by the link but by the session that it opens."""
        del request
        return None

    def redeem(self, given: str) -> Principal | None:
        """Return who comes in by this token, and replace it; None if it is not, or no longer, the one."""
        with self._lock:
            if not _same(given, self.link_token):
                return None
            self.link_token = secrets.token_urlsafe(32)
        if self._announce is not None:
            self._announce(self.link_token)
        return Principal("local", self.role)


@dataclass(frozen=True, slots=True)
class Anyone:
    """Lets every request in: for a mounted dashboard whose host application has checked already."""

    role: Role = "viewer"
    name: str = "anyone"

    def __call__(self, request: Request) -> Principal | None:
        del request
        return Principal(self.name, self.role)


def _credentials(request: Request, scheme: str) -> str:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == scheme else ""


def _same(given: str, right: str) -> bool:
    return bool(right) and hmac.compare_digest(given.encode(), right.encode())


def peer(request: Request) -> str:
    """Return the address that a request came from, without its port: an IP address, or "unix"."""
    host = getattr(request.client, "host", None) or UNIX
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    return str(getattr(address, "ipv4_mapped", None) or address)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return an address or network that a proxy may come from; None for "unix". Raises UsageError."""
    if text == UNIX:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no address of a proxy: {error}. Give an address, a network such as 10.0.0.0/8, or "
            '"unix"'
        ) from None


def comes_from(request: Request, proxies: Sequence[str]) -> bool:
    """Return whether the request's peer is one of these proxies."""
    told = peer(request)
    for one in proxies:
        known = network(one)
        if known is None:
            if told == UNIX:
                return True
            continue
        try:
            if ipaddress.ip_address(told) in known:
                return True
        except ValueError:
            continue
    return False


def parse(text: str, proxies: Sequence[str] = ()) -> Callable[..., object]:
    """Return an entry from its text. Raises UsageError, which names the forms and repeats no secret.

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
                found: Callable[..., object] = getattr(importlib.import_module(module), name)
                return found
            case "none", [""] if text == "none":
                return Anyone("admin")
            case _:
                pass
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise UsageError(f"--auth {kind}:…: {_without_secret(error)}") from None
    # What was typed may be a password that lacks its kind: only a known kind is repeated.
    named = f"{kind}:…" if kind in _KINDS else "…"
    raise UsageError(
        f"--auth {named} is not understood: give basic:USER:PASSWORD[:ROLE], bearer:TOKEN[:ROLE], "
        f"header:NAME[:ROLE], call:MODULE:NAME or none, with a role of {', '.join(ROLES)}"
    )


def _without_secret(error: Exception) -> str:
    """Return the reason without the text that was given: a password beside "@" would be part of it."""
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
    # What stands there may be the rest of a password with a colon in it, so it is not repeated.
    raise UsageError(
        f"--auth: what follows the last colon is no role: there are {', '.join(ROLES)}. "
        "A password with a colon in it goes into a file: @FILE"
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
        raise UsageError("--auth: a password or token has at least 8 characters")
    return secret
