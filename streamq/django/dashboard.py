"""Django's users on the dashboard: `--auth call:streamq.django.dashboard:staff`.

Owns the way from a session cookie to a principal. The dashboard must run with the project's settings
(`manage.py streamq dashboard`) under the host name of the site, or it gets no cookie.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user

from streamq.dashboard.auth import Principal, Request
from streamq.django.connections import tidy


async def staff(request: Request) -> Principal | None:
    """Return who is logged in: superusers may do all, other staff may look. None for anyone else."""
    key = _session_key(request.headers.get("cookie", ""))
    return None if not key else await sync_to_async(_principal, thread_sensitive=False)(key)


def _session_key(header: str) -> str:
    try:
        found = SimpleCookie(header).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _principal(key: str) -> Principal | None:
    tidy()
    try:
        store: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
        user: Any = get_user(SimpleNamespace(session=store))  # checks that the password is still the same
        if not user.is_authenticated or not user.is_active or not user.is_staff:
            return None
        return Principal(user.get_username(), "admin" if user.is_superuser else "viewer")
    finally:
        tidy()
