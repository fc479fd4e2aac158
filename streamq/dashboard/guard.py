"""What every request passes: who asks, from where, and whether a browser was tricked into asking.

Owns the checks and the headers of every answer. Decides nothing about a task.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from streamq.dashboard.access import Principal
from streamq.dashboard.probes import probe

COOKIE: Final = "streamq_form"
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
    "403: nobody is let in from here. Ask from the dashboard's own host, or give it `auth=` "
    "(on the command line --auth), such as basic:ada:PASSWORD.\n"
)


class Guard:
    """ASGI middleware around the whole site. `entries` are asked in turn who somebody is."""

    def __init__(
        self, app: Any, *, entries: Sequence[Any], read_only: bool, hosts: Sequence[str] | None
    ) -> None:
        self._app = app
        self._entries = tuple(entries)
        self._read_only = read_only
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        # A probe comes without a login and asks for the pod's address, not for a name.
        answer = probe(scope) or self._refusal(request) or await self._admit(request)
        fresh = _form_token(request)
        headers = _Headers(send, request, fresh)
        await (answer or self._app)(scope, receive, headers.send)

    def _refusal(self, request: Request) -> Response | None:
        if self._hosts is not None and _host(request.headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("421: this dashboard has another name: see --allowed-host\n", 421)
        if request.method not in SAFE and not _own(request):
            return PlainTextResponse("403: this request comes from another site\n", 403)
        return None

    async def _admit(self, request: Request) -> Response | None:
        for entry in self._entries:
            found = await _ask(entry, request)
            if isinstance(found, Principal):
                role = "viewer" if self._read_only else found.role
                request.scope["principal"] = Principal(found.name, role)
                return None
        if any(hasattr(entry, "password") for entry in self._entries):
            challenge = {"www-authenticate": 'Basic realm="streamq", charset="UTF-8"'}
            return PlainTextResponse("401: name and password, please\n", 401, challenge)
        if any(hasattr(entry, "token") for entry in self._entries):
            return PlainTextResponse("401: a token, please\n", 401, {"www-authenticate": "Bearer"})
        return PlainTextResponse(_DENIED, 403)


async def _ask(entry: Any, request: Request) -> Any:
    """An entry's answer; one that is plain code is asked in a thread, since it may look something up."""
    if inspect.iscoroutinefunction(entry) or inspect.iscoroutinefunction(getattr(entry, "__call__", None)):  # noqa: B004
        return await entry(request)
    if type(entry).__module__ == Principal.__module__:
        return entry(request)
    answer = await run_in_threadpool(entry, request)
    return await answer if inspect.isawaitable(answer) else answer


def _host(value: str) -> str:
    return (urlsplit(f"//{value}").hostname or "").lower()


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
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


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
    """Adds the headers of safety to an answer."""

    def __init__(self, send: Any, request: Request, token: str | None) -> None:
        self._send = send
        self._request = request
        self._token = token

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            if self._token is not None:
                headers.append("set-cookie", self._cookie())
        await self._send(message)

    def _cookie(self) -> str:
        path = self._request.scope.get("root_path", "") or "/"
        secure = "; Secure" if self._request.url.scheme == "https" else ""
        return f"{COOKIE}={self._token}; Path={path}; HttpOnly; SameSite=Strict{secure}"
