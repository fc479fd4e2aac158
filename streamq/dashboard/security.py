"""What every request passes: who asks, from where, and whether a browser was tricked into asking.

Owns the checks and the headers of every answer. Decides nothing about a task.
"""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from streamq.dashboard.auth import Basic, Bearer, LoginLink, Principal, comes_from, peer
from streamq.dashboard.probes import inner_path, probe
from streamq.dashboard.sessions import LIFETIME, Sessions
from streamq.dashboard.throttle import Throttle
from streamq.telemetry import logs

COOKIE: Final = "streamq_form"
SESSION: Final = "streamq_session"
TOKEN: Final = "token"  # noqa: S105 - a name
"""The query parameter of a login link."""
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
_DENIED: Final = (
    "403: this request was not let in. Log in where the proxy or application in front asks you to, or give "
    "the dashboard `auth=` (on the command line --auth), such as basic:ada:PASSWORD.\n"
)
_BY_LINK: Final = (
    "401: open the login link that the program has printed on its terminal (it ends in ?token=…). It works "
    "once; after that the program prints a new one. For a login with a password give the dashboard `auth=` "
    "(on the command line --auth), such as basic:ada:@FILE.\n"
)
_OTHER_NAME: Final = (
    "421: the dashboard was asked for by a name that it does not go by: {name!r}. If the name is right, give "
    "it with --allowed-host, or hosts=[…] in code.\n"
)


def known_hosts(hosts: Sequence[str] | None, entries: Sequence[object]) -> frozenset[str] | None:
    """Return the names that a site goes by; None for any.

    A page of another site that rebinds its own name to this host sends no password and no token of ours. So
    if each way in asks for one, any name will do; otherwise only those of this host, unless others are given.
    """
    if hosts is None and all(isinstance(entry, Basic | Bearer) for entry in entries):
        return None
    names = frozenset(host.lower().strip("[]") for host in (LOOPBACK_NAMES if hosts is None else hosts))
    return None if ANY_HOST in names else names


class Security:
    """ASGI middleware around the whole site. `entries` are asked in turn who a request comes from.

    hosts: the names that the site goes by; see `known_hosts`.
    secure_cookies: browsers reach the site over TLS, also if it is served without (behind a proxy).
    proxies: peers whose X-Forwarded-For is believed, to tell who guesses passwords.
    """

    def __init__(
        self,
        app: Any,
        *,
        entries: Sequence[Any],
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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        headers = _Headers(send, scope, secure=self._secure or scope["scheme"] == "https")
        # A probe comes without a login and asks for the pod's address, not for a name.
        answer = probe(scope) or self._refusal(request) or await self._admit(request, headers)
        fresh = _form_token(request)
        if fresh is not None:
            headers.cookie(COOKIE, fresh)
        await (answer or self._app)(scope, receive, headers.send)

    def _refusal(self, request: Request) -> Response | None:
        told = request.headers.get("host", "")
        name = host_name(told)
        if name is None:
            return PlainTextResponse("400: the Host header is not a host name\n", 400)
        if self._hosts is not None and name not in self._hosts:
            return PlainTextResponse(_OTHER_NAME.format(name=name[:100]), 421)
        if request.method not in SAFE and not _own(request):
            return PlainTextResponse("403: this request comes from another site\n", 403)
        return None

    async def _admit(self, request: Request, headers: _Headers) -> Response | None:
        session = self._sessions.read(request.cookies.get(session_cookie(request.scope), ""))
        credentials = _credentials(request)
        waiting = self._throttle.wait(self._peer(request)) if credentials else 0.0
        if (waiting or "authorization" not in request.headers) and self._enter(request, session):
            return None
        if waiting:
            told = f"429: too many failed logins from your address: try again in {waiting:.0f} s\n"
            return PlainTextResponse(told, 429, {"retry-after": f"{max(1.0, waiting):.0f}"})
        if link := self._by_link(request, headers):
            return link
        for entry in self._entries:
            found = await _ask(entry, request)
            if self._enter(request, found):
                if isinstance(entry, Basic):  # so that somebody else's guesses cannot lock this browser out
                    self._remember(request, headers, found)
                return None
        if credentials:
            self._failed(request)
        return self._challenge()

    def _enter(self, request: Request, found: object) -> bool:
        if not isinstance(found, Principal):
            return False
        role = "viewer" if self._read_only else found.role
        request.scope["principal"] = Principal(found.name, role)
        return True

    def _by_link(self, request: Request, headers: _Headers) -> Response | None:
        """Exchange the token of a login link for a session, and go on to the page without it."""
        given = _link_token(request)
        # A browser may load ahead what it guesses will be opened: that would use the link up.
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

    def _failed(self, request: Request) -> None:
        told = self._peer(request)
        waits = self._throttle.failed(told)
        self._log.warning("dashboard.login_failed", peer=told[:100], wait_s=round(waits, 1))

    def _peer(self, request: Request) -> str:
        """Return who asks: the client that a proxy of ours names, else the peer itself."""
        named = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return named if named and self._proxies and comes_from(request, self._proxies) else peer(request)

    def _challenge(self) -> Response:
        if any(hasattr(entry, "password") for entry in self._entries):
            challenge = {"www-authenticate": 'Basic realm="streamq", charset="UTF-8"'}
            return PlainTextResponse("401: user name and password required\n", 401, challenge)
        if any(hasattr(entry, "token") for entry in self._entries):
            return PlainTextResponse("401: token required\n", 401, {"www-authenticate": "Bearer"})
        if self._links:
            return PlainTextResponse(_BY_LINK, 401, {"www-authenticate": 'LoginLink realm="streamq"'})
        return PlainTextResponse(_DENIED, 403)


async def _ask(entry: Any, request: Request) -> Any:
    """An entry's answer; one that is plain code is asked in a thread, since it may look something up."""
    if inspect.iscoroutinefunction(entry) or inspect.iscoroutinefunction(getattr(entry, "__call__", None)):  # noqa: B004
        return await entry(request)
    if type(entry).__module__ == Principal.__module__:
        return entry(request)
    answer = await run_in_threadpool(entry, request)
    return await answer if inspect.isawaitable(answer) else answer


def session_cookie(scope: Any) -> str:
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
    """Return what a request logs in with, by header or by link; "" if it does not try."""
    authorization: str = request.headers.get("authorization", "")
    return authorization or _link_token(request)


def _own(request: Request) -> bool:
    """Whether a request that writes was made by our own page, or by no browser at all.

    Browsers say where a request comes from and pages cannot change that; older ones send the origin.
    Where neither is there it is a program, which no web site can have tricked: forms are checked
    for their token all the same.
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
    """The token that our forms carry, the same as in the cookie. Answers it where it is a new one."""
    known = request.cookies.get(COOKIE, "")
    if len(known) == 43 and known.replace("-", "a").replace("_", "a").isalnum() and known.isascii():
        request.scope["form_token"] = known
        return None
    request.scope["form_token"] = fresh = secrets.token_urlsafe(32)
    return fresh


def good_token(request: Request, given: object) -> bool:
    """Whether a form came from a page of ours."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(), request.scope["form_token"].encode()
    )


class _Headers:
    """Adds the headers of safety and our cookies to an answer."""

    def __init__(self, send: Any, scope: Any, *, secure: bool) -> None:
        self._send = send
        self._path = scope.get("root_path", "") or "/"
        self._secure = secure
        self._cookies: list[str] = []

    def cookie(self, name: str, value: str, lifetime: int | None = None) -> None:
        """Set a cookie that no script and no other site can use. lifetime: seconds; None for the session."""
        ends = "" if lifetime is None else f"; Max-Age={lifetime}"
        secure = "; Secure" if self._secure else ""
        self._cookies.append(f"{name}={value}; Path={self._path}{ends}; HttpOnly; SameSite=Strict{secure}")

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            for cookie in self._cookies:
                headers.append("set-cookie", cookie)
        await self._send(message)
