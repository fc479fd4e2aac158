"""The dashboard: web pages and JSON over the inspector and the admin, as an ASGI application.

`dashboard(app)` is served on its own (`streamq dashboard`) or mounted in another application
(`fastapi_app.mount("/queues", dashboard(app, auth=...))`); it needs no lifespan. Needs
`pip install 'streamq[dashboard]'`. Every list is bounded, no part of a payload is rendered as HTML,
and every write goes through `admin` under the principal's name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamq import environment
from streamq.dashboard import trace_links
from streamq.dashboard.auth import Anyone, Auth, Basic, Bearer, Header, LoginLink, Principal, Role
from streamq.errors import StreamQError, UsageError

if TYPE_CHECKING:
    from streamq.dashboard.context import Queue

__all__ = ["Anyone", "Basic", "Bearer", "Header", "LoginLink", "Principal", "Role", "dashboard"]


def dashboard(
    app: Queue, *, auth: Auth | Sequence[Auth] | None = None, read_only: bool = False,
    redact: Sequence[str] = (), hide_payloads: bool = False, hosts: Sequence[str] | None = None,
    secure_cookies: bool = False, proxies: Sequence[str] = (), trace_url: str | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """Return the dashboard of an app as an ASGI application.

    auth: how users log in, and their roles: Basic, Bearer, Header, or a callable (sync or async) that takes
        the request and returns a Principal or None. Without it, login is by link: the program prints a link
        on standard error that logs in one browser (LoginLink). If an application runs in several processes,
        each has its own link and sessions, so pass `auth` there.
    read_only: allow no actions, whatever the role.
    redact: names of payload fields to hide, with wildcards ("*token*"), at any depth; their values are also
        masked in the messages and tracebacks of errors. A value derived from one (a hash, for example) cannot
        be recognised.
    hide_payloads: show no payload, no result, no message and no traceback: of an error only its type and
        place.
    hosts: accepted host names, without ports (protects against DNS rebinding); "*" accepts any. None accepts
        any name if every entry requires a password or token (Basic, Bearer), otherwise localhost only.
    secure_cookies: True if browsers use TLS to reach it through a proxy.
    proxies: addresses or networks of proxies whose X-Forwarded-For names the client, for the login throttle.
    trace_url: where traces are shown, such as "https://grafana.example/explore?trace={trace_id}": the page of
        a task links to its trace there. None uses STREAMQ_TRACE_URL.

    Raises InvalidOption if trace_url is no such address, and UsageError if the extra is missing.
    """
    try:
        from streamq.dashboard.site import build  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UsageError(f"the dashboard needs {error.name}: pip install 'streamq[dashboard]'") from error
    traces = trace_links.check(environment.TRACE_URL.get() if trace_url is None else trace_url)
    entries: tuple[Auth, ...] = (auth,) if callable(auth) else tuple(auth or (_printed_link(),))
    return build(
        app, auth=entries, read_only=read_only, redact=tuple(redact), hide_payloads=hide_payloads,
        hosts=hosts, secure_cookies=secure_cookies, proxies=tuple(proxies), trace_url=traces,
    )  # fmt: skip


def waiting(find: Callable[[], Queue], why: StreamQError, *, name: str, **options: Any) -> Callable[..., Any]:
    """Return the dashboard of a queue that does not exist yet: `find` raises StreamQErrors until it does."""
    try:
        from streamq.dashboard.waiting import build  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UsageError(f"the dashboard needs {error.name}: pip install 'streamq[dashboard]'") from error
    return build(find, why, name=name, **options)


def several(
    names: Callable[[], Sequence[str]], find: Callable[[str], Queue], **options: Any
) -> Callable[..., Any]:
    """Return the dashboards of several apps of a server, with a switcher: `names` returns the apps, and
    `find` one of them."""
    try:
        from streamq.dashboard.several import build  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UsageError(f"the dashboard needs {error.name}: pip install 'streamq[dashboard]'") from error
    return build(names, find, **options)


def _printed_link() -> LoginLink:
    def announce(token: str) -> None:
        sys.stderr.write(f"streamq: to log in to the dashboard, add ?token={token} to its address, once\n")

    link = LoginLink(announce)
    announce(link.link_token)
    return link
