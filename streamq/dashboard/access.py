"""Who may come in, and what they may do.

Owns principals, roles and the built-in ways to tell who somebody is. Each is a callable that takes the
request and answers a Principal, or None where it does not know them. Secrets are compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from streamq.errors import UsageError

Role = Literal["viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
MAY: Final[dict[str, Role]] = {
    "pause": "operator",
    "resume": "operator",
    "cancel": "operator",
    "run-now": "operator",
    "requeue": "operator",
    "drain": "operator",
    "purge": "admin",
    "resubmit": "admin",
}
"""The least role that may do each action."""
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Request(Protocol):
    """What is looked at of a request."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def client(self) -> Any: ...


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
    """The name that a proxy in front has put into a header (oauth2-proxy, an identity-aware proxy).

    Only for a dashboard that cannot be reached past the proxy, which must strip the header from what
    comes in. `roles` gives some names another role than `role`.
    """

    header: str
    role: Role = "viewer"
    roles: Mapping[str, Role] | None = None

    def __call__(self, request: Request) -> Principal | None:
        name = request.headers.get(self.header.lower(), "").strip()[:200]
        return Principal(name, (self.roles or {}).get(name, self.role)) if name else None


@dataclass(frozen=True, slots=True)
class Loopback:
    """Whoever asks from this host, and not through a proxy: what holds where nothing else was said."""

    role: Role = "admin"

    def __call__(self, request: Request) -> Principal | None:
        if any(name in request.headers for name in _FORWARDED):
            return None
        host = getattr(request.client, "host", None)
        # A unix socket has no address: who may open it is the file system's business.
        return Principal("local", self.role) if host is None or _loopback(host) else None


@dataclass(frozen=True, slots=True)
class Anyone:
    """Lets everybody in: for a mounted dashboard whose host application has checked already."""

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


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_loopback
    except ValueError:
        return host == "localhost"


def parse(text: str) -> Callable[..., Any]:
    """An entry from its text. Raises UsageError, which names the forms.

    `basic:USER:PASSWORD[:ROLE]`, `bearer:TOKEN[:ROLE]`, `header:NAME[:ROLE]`, `call:MODULE:NAME`; a
    password or token may be `@FILE`, or `$NAME` for an environment variable.
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
                return Header(name, _role(role, "viewer"))
            case "call", [module, name]:
                found: Callable[..., Any] = getattr(importlib.import_module(module), name)
                return found
            case _:
                pass
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(f"--auth {kind}:…: {error}") from None
    raise UsageError(
        f"--auth {kind}:… is not understood: basic:USER:PASSWORD[:ROLE], bearer:TOKEN[:ROLE], "
        f"header:NAME[:ROLE] or call:MODULE:NAME, with a role of {', '.join(ROLES)}"
    )


def _role(given: list[str], default: Role) -> Role:
    if not given:
        return default
    for role in ROLES:
        if given[0] == role:
            return role
    raise UsageError(f"--auth: there is no role {given[0]!r}; there are {', '.join(ROLES)}")


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
