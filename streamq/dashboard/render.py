"""Render templates as HTML.

Owns the template environment and the filters for values. Everything is escaped; no template marks text as
safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from streamq.control import formatting
from streamq.dashboard.auth import Principal
from streamq.dashboard.menu import MENU, section
from streamq.dashboard.probes import inner_path
from streamq.errors import StreamQError

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
NOTHING: Final = "\N{EN DASH}"
REASONS: Final = {
    "attempts": "all attempts failed", "gave_up": "given up at once", "lost": "its worker was lost too often",
    "arguments": "its arguments do not fit", "result": "its result cannot be stored",
    "version": "a newer release wrote it", "encoding": "its arguments cannot be decoded",
    "blob": "its blob is gone or changed", "vanished": "its entry vanished",
    "foreign": "another program wrote it",
}  # fmt: skip
"""Why a task is dead, in words; a reason that is not here is shown as it is."""
NOTICE: Final = "streamq_notice"
"""The cookie that carries the notice of an action to the next page."""


def count(value: float | None) -> str:
    """Return 1234567 as 1,234,567."""
    return NOTHING if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Return tasks a second, without the unit."""
    return NOTHING if value is None else formatting.rate(value) if value else "0"


def millis(value: float | None) -> str:
    """Return seconds as milliseconds, without the unit: 0.2, 13, 14,000."""
    return NOTHING if value is None else f"{value * 1000:,.{0 if value >= 0.01 else 1}f}"


def clock(seconds: float | None) -> str:
    """Return seconds as h:mm:ss, one form for all ages of a column."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:,}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float | None) -> str:
    """Return seconds as 12 ms, 4.2 s, 3 m 10 s, 5 h 02 m, 3 d 04 h."""
    return NOTHING if seconds is None else formatting.duration(seconds, " ")


def share(value: float | None) -> str:
    """Return a fraction as a percentage, rounded down."""
    if value is None:
        return NOTHING
    # 99.96 % must not look like 100 %.
    return f"{int(value * 1000) / 10:g} %"


def moment(ms: int | None) -> str:
    """Return ms since the epoch as UTC; the page's script turns it into the reader's own time."""
    at = formatting.utc(ms) if ms else None
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else str(ms) if ms else NOTHING


def iso(ms: int) -> str:
    """Return ms since the epoch for a `datetime` attribute."""
    at = formatting.utc(ms)
    return at.isoformat(timespec="milliseconds") if at else ""


def points(values: Sequence[float], width: int = 120, height: int = 24) -> str:
    """Return values as the points of an SVG line."""
    top = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    return " ".join(
        f"{n * step:.1f},{height - 1 - value / top * (height - 2):.1f}" for n, value in enumerate(values)
    )


@cache
def asset(name: str) -> str:
    """Return the URL of a static file with a hash of its content, so that it may be cached forever."""
    return f"{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (count, rate, millis, clock, duration, share, moment, iso, formatting.size, points):
        environment.filters[filter_.__name__] = filter_
    return environment


class Switcher(NamedTuple):
    """The other apps of the server: the name of this one, and what returns all names."""

    name: str
    names: Callable[[], Sequence[str]]

    def links(self, root: str) -> list[tuple[str, str]]:
        """Return the names of the other apps with their addresses; none if they cannot be read."""
        base = root.removesuffix(f"/app/{self.name}")
        try:
            return [(one, f"{base}/app/{quote(one)}/") for one in self.names() if one != self.name]
        except StreamQError:
            return []


class Renderer:
    """Renders the pages of one site."""

    def __init__(self, name: str, *, read_only: bool, switcher: Switcher | None = None) -> None:
        self._name = name
        self._read_only = read_only
        self._switcher = switcher

    def page(
        self, request: Request, template: str, /, *, status: int = 200, **values: object
    ) -> HTMLResponse:
        """Return a page. Links begin with the path at which the site is mounted."""
        root = request.scope.get("root_path", "")

        def link(path: str, /, **query: object) -> str:
            given = {key: value for key, value in query.items() if value not in (None, "")}
            return f"{root}{quote(path)}" + (f"?{urlencode(given)}" if given else "")

        html = (
            _environment()
            .get_template(template)
            .render(
                app_name=self._name,
                other_apps=self._switcher.links(root) if self._switcher else [],
                read_only=self._read_only,
                principal=request.scope.get("principal", Principal("nobody")),
                token=request.scope.get("form_token", ""),
                link=link,
                static=lambda name: f"{root}/static/{asset(name)}",
                here=f"{root}{inner_path(request.scope)}"
                + (f"?{request.url.query}" if request.url.query else ""),
                reason_words=REASONS,
                menu=MENU,
                section=section(inner_path(request.scope)),
                notice=unquote(request.cookies.get(NOTICE, ""))[:300],
                **values,
            )
        )
        response = HTMLResponse(html, status)
        if NOTICE in request.cookies:
            response.delete_cookie(NOTICE, path=root or "/", httponly=True, samesite="strict")
        return response
