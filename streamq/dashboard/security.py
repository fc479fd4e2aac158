"""Check every request: authentication, host name, and cross-site requests.

Owns these checks and the security headers of every response. Must not decide anything about a task.
"""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamq.dashboard.auth import Auth, Basic, Bearer, LoginLink, Principal, comes_from, peer
from streamq.dashboard.login_texts import DENIED, LOGIN, TOKEN, USE_LINK
from streamq.dashboard.probes import inner_path, probe
from streamq.dashboard.sessions import LIFETIME, Sessions
from streamq.dashboard.throttle import Throttle
from streamq.telemetry import logs

COOKIE: Final = "streamq_form"
SESSION: Final = "streamq_session"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
ANY_HOST: Final = "*"
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(:[0-9]{0,5})?")
_LONGEST_HOST: Final = 300
SAFE: Final = ("GET", "HEAD", "OPTIONS")
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_WRONG_HOST: Final = (
    "421: the host name {name!r} is not accepted. If it is right, add it with --allowed-host, or hosts=[…] "
    "in code.\n"
)
_CROSS_SITE: Final = "403: the request comes from another site. Use the dashboard's own pages.\n"


def known_hosts(hosts: Sequence[str] | None, entries: Sequence[object]) -> frozenset[str] | None:
    """Return the host names that a site accepts; None for any.

    A page of another site that rebinds its own name to this host cannot send the password or token. So if
    every entry requires one, any name is accepted; otherwise only the names of this host, unless others are
    given.
    """
    if hosts is None and all(isinstance(entry, Basic | Bearer) for entry in entries):
        return None
    names = frozenset(host.lower().strip("[]") for host in (LOOPBACK_NAMES if hosts is None else hosts))
    return None if ANY_HOST in names else names


class Security:
    """ASGI middleware around the whole site. Each of `entries` may authenticate a request; the first does.

    hosts: the accepted host names; see `known_hosts`.
    secure_cookies: browsers use TLS, although the site may be served without it behind a proxy.
    proxies: peers whose X-Forwarded-For is trusted, for the login throttle.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        entries: Sequence[Auth],
        read_only: bool,
        hosts: Sequence[str] | None,
        secure_cookies: bool = False,
        proxies: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._entries = tuple(entries)
        self._links = [entry for entry in entries if isinstance(entry, LoginLink)]
        self._read_only = read_only
        self._hosts = known_hosts(hosts, entries)
        self._secure = secure_cookies
        self._proxies = tuple(proxies)
        self._sessions = Sessions()
        self._throttle = Throttle()
        self._log = logs.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        headers = _Headers(send, scope, secure=self._secure or scope["scheme"] == "https")
        # A probe has no login, and its Host is the pod's address.
        answer = probe(scope) or self._refusal(request) or await self._authenticate(request, headers)
        fresh = _form_token(request)
        if fresh is not None:
            headers.cookie(COOKIE, fresh)
        await (answer or self._app)(scope, receive, headers.send)

    def _refusal(self, request: Request) -> Response | None:
        name = host_name(request.headers.get("host", ""))
        if name is None:
            return PlainTextResponse("400: the Host header is not a host name\n", 400)
        if self._hosts is not None and name not in self._hosts:
            return PlainTextResponse(_WRONG_HOST.format(name=name[:100]), 421)
        if request.method not in SAFE and not _same_origin(request):
            return PlainTextResponse(
                "403: the request comes from another site. Use the dashboard's own pages.\n", 403
            )
        return None

    async def _authenticate(self, request: Request, headers: _Headers) -> Response | None:
        session = self._sessions.read(request.cookies.get(session_cookie(request.scope), ""))
        credentials = _credentials(request)
        waiting = self._throttle.wait(self._peer(request)) if credentials else 0.0
        if (waiting or "authorization" not in request.headers) and self._accept(request, session):
            return None
        if waiting:
            text = f"429: too many failed logins from your address. Try again in {waiting:.0f} s.\n"
            return PlainTextResponse(text, 429, {"retry-after": f"{max(1.0, waiting):.0f}"})
        if link := self._by_link(request, headers):
            return link
        for entry in self._entries:
            found = await _principal(entry, request)
            if found is not None and self._accept(request, found):
                if isinstance(entry, Basic):  # so that guesses from elsewhere cannot lock this browser out
                    self._remember(request, headers, found)
                return None
        if credentials:
            self._count_failure(request)
        return self._challenge(request)

    def _accept(self, request: Request, found: Principal | None) -> bool:
        if found is None:
            return False
        role = "viewer" if self._read_only else found.role
        request.scope["principal"] = Principal(found.name, role)
        return True

    def _by_link(self, request: Request, headers: _Headers) -> Response | None:
        """Exchange the token of a login link for a session, and redirect to the page without it."""
        given = _link_token(request)
        # A browser may prefetch the link: that would use it up.
        if not given or request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
            return None
        for link in self._links:
            found = link.redeem(given)
            if found is not None:
                self._remember(request, headers, found)
                path = request.scope.get("root_path", "") + inner_path(request.scope)
                return RedirectResponse("/" + path.lstrip("/\\"), 303)
        return None

    def _remember(self, request: Request, headers: _Headers, found: Principal) -> None:
        name = session_cookie(request.scope)
        headers.cookie(name, self._sessions.issue(found), lifetime=LIFETIME)

    def _count_failure(self, request: Request) -> None:
        client = self._peer(request)
        waits = self._throttle.failed(client)
        self._log.warning("dashboard.login_failed", peer=client[:100], wait_s=round(waits, 1))

    def _peer(self, request: Request) -> str:
        """Return the client's address: as named by a trusted proxy, otherwise the peer's."""
        named = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return named if named and self._proxies and comes_from(request, self._proxies) else peer(request)

    def _challenge(self, request: Request) -> Response:
        if any(hasattr(entry, "password") for entry in self._entries):
            challenge = {"www-authenticate": 'Basic realm="streamq", charset="UTF-8"'}
            return PlainTextResponse("401: user name and password required\n", 401, challenge)
        if any(hasattr(entry, "token") for entry in self._entries):
            return PlainTextResponse("401: token required\n", 401, {"www-authenticate": "Bearer"})
        if self._links:
            challenge = {"www-authenticate": 'LoginLink realm="streamq"'}
            if "text/html" in request.headers.get("accept", ""):
                return HTMLResponse(LOGIN, 401, challenge)
            return PlainTextResponse(USE_LINK, 401, challenge)
        return PlainTextResponse(DENIED, 403)


async def _principal(entry: Auth, request: Request) -> Principal | None:
    """Call an entry; a plain function runs in a thread, because it may block."""
    ours = type(entry).__module__ == Principal.__module__
    if ours or inspect.iscoroutinefunction(entry) or inspect.iscoroutinefunction(type(entry).__call__):
        found = entry(request)
    else:
        found = await run_in_threadpool(entry, request)
    if inspect.isawaitable(found):
        found = await found
    return found if isinstance(found, Principal) else None


def session_cookie(scope: Scope) -> str:
    """Return the session cookie's name. The port is in it: browsers send cookies to all ports of a host."""
    server = scope.get("server") or ("", None)
    return f"{SESSION}_{server[1] or 0}"


def host_name(value: str) -> str | None:
    """Return the name in a Host header, in lower case and without the port; None if it is malformed."""
    found = _HOST.fullmatch(value[:_LONGEST_HOST])
    return found["name"].strip("[]").lower() if found and len(value) <= _LONGEST_HOST else None


def _link_token(request: Request) -> str:
    try:
        query: dict[str, list[str]] = parse_qs(
            request.scope.get("query_string", b"").decode("ascii"), max_num_fields=100
        )
    except ValueError:
        return ""
    return query.get(TOKEN, [""])[0]


def _credentials(request: Request) -> str:
    """Return the credentials of a request, in the header or in a login link; "" if there are none."""
    authorization: str = request.headers.get("authorization", "")
    return authorization or _link_token(request)


def _same_origin(request: Request) -> bool:
    """Return whether a request that writes comes from the site's own page, or not from a browser.

    Browsers send where a request comes from, and pages cannot change that; older ones send the origin.
    Without either header the client is a program, which another site cannot control: forms need their token
    all the same.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == request.headers.get("host", "")
    except ValueError:
        return False


def _form_token(request: Request) -> str | None:
    """Set the token that forms carry, the same as in the cookie; return it if it is new."""
    known = request.cookies.get(COOKIE, "")
    if len(known) == 43 and known.replace("-", "a").replace("_", "a").isalnum() and known.isascii():
        request.scope["form_token"] = known
        return None
    request.scope["form_token"] = fresh = secrets.token_urlsafe(32)
    return fresh


def is_form_token(request: Request, given: object) -> bool:
    """Return whether a form came from a page of the site."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(), request.scope["form_token"].encode()
    )


class _Headers:
    """Adds the security headers and cookies to a response."""

    def __init__(self, send: Send, scope: Scope, *, secure: bool) -> None:
        self._send = send
        self._path = scope.get("root_path", "") or "/"
        self._secure = secure
        self._cookies: list[str] = []

    def cookie(self, name: str, value: str, lifetime: int | None = None) -> None:
        """Set a cookie that scripts and other sites cannot use. lifetime: seconds; None for the session."""
        ends = "" if lifetime is None else f"; Max-Age={lifetime}"
        secure = "; Secure" if self._secure else ""
        self._cookies.append(f"{name}={value}; Path={self._path}{ends}; HttpOnly; SameSite=Strict{secure}")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            for cookie in self._cookies:
                headers.append("set-cookie", cookie)
        await self._send(message)
