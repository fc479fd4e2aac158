"""The dashboard: web pages and JSON over the inspector and the admin, as an ASGI application.

`dashboard(app)` is served by itself (`streamq dashboard`) or mounted in an application of yours
(`fastapi_app.mount("/queues", dashboard(app, auth=...))`); it needs no lifespan. Needs
`pip install 'streamq[dashboard]'`. Every list is bounded, nothing of a payload is rendered as HTML,
and everything that writes goes through `admin`, in the name of who asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamq.dashboard.auth import Anyone, Basic, Bearer, Header, LoginLink, Principal, Role
from streamq.errors import StreamQError, UsageError

if TYPE_CHECKING:
    from streamq.dashboard.context import Auth, Queue

__all__ = ["Anyone", "Basic", "Bearer", "Header", "LoginLink", "Principal", "Role", "dashboard"]


def dashboard(
    app: Queue,
    *,
    auth: Auth | Sequence[Auth] | None = None,
    read_only: bool = False,
    redact: Sequence[str] = (),
    hide_payloads: bool = False,
    hosts: Sequence[str] | None = None,
    secure_cookies: bool = False,
    proxies: Sequence[str] = (),
) -> Callable[..., Any]:
    """The dashboard of an app as an ASGI application.

    auth: who may come in, and as what; see Basic, Bearer, Header, or a callable (sync or async) that
        takes the request and returns a Principal or None. Without it there is a login by link: the program
        prints one on its standard error that lets one browser in (LoginLink). Of an application that runs in
        several processes each has a link and sessions of its own, so give such a one `auth`.
    read_only: nobody may do more than look.
    redact: names of payload fields that are not shown, with wildcards ("*token*"), at any depth; their values
        are masked in the messages and tracebacks of errors too. What the code makes of a value (a hash, say)
        cannot be recognised.
    hide_payloads: show no payload, no result, no message and no traceback at all: of an error only its type
        and place.
    hosts: the names that it may be asked for by, without ports (guards against DNS rebinding); "*" is any.
        None is any name if each way in asks for a password or token (Basic, Bearer), else localhost only.
    secure_cookies: True if browsers reach it over TLS although it is served without, behind a proxy.
    proxies: addresses or networks of proxies whose X-Forwarded-For tells who guesses passwords.
    """
    try:
        from streamq.dashboard.site import build  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UsageError(f"the dashboard needs {error.name}: pip install 'streamq[dashboard]'") from error
    entries: tuple[Auth, ...] = (auth,) if callable(auth) else tuple(auth or (_printed_link(),))
    return build(
        app,
        auth=entries,
        read_only=read_only,
        redact=tuple(redact),
        hide_payloads=hide_payloads,
        hosts=hosts,
        secure_cookies=secure_cookies,
        proxies=tuple(proxies),
    )


def waiting(
    find: Callable[[], Queue], why: StreamQError, *, name: str, **options: Any
) -> Callable[..., object]:
    """As `dashboard`, of a queue that is yet to come: `find` raises StreamQErrors until it is there."""
    try:
        from streamq.dashboard.waiting import build  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UsageError(f"the dashboard needs {error.name}: pip install 'streamq[dashboard]'") from error
    return build(find, why, name=name, **options)


def _printed_link() -> LoginLink:
    def announce(token: str) -> None:
        sys.stderr.write(f"streamq: to log in to the dashboard, add ?token={token} to its address, once\n")

    link = LoginLink(announce)
    announce(link.link_token)
    return link
