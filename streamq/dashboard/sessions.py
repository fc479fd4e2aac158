"""Sessions: a browser that logged in once keeps its principal in a signed cookie.

Owns the cookie's form and the key that signs it, which lives in this process only: a restart ends all
sessions. Keeps nothing per session, so nobody can fill it up. Decides nothing about who may log in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

import orjson

from streamq.dashboard.auth import ROLES, Principal

LIFETIME: Final = 12 * 3600
"""Seconds that a session lasts."""
_LONGEST: Final = 2048


class Sessions:
    """Issues and reads session cookies. clock: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock

    def issue(self, principal: Principal) -> str:
        """Return the cookie's value for a principal."""
        ends = int(self._clock()) + LIFETIME
        told = base64.urlsafe_b64encode(orjson.dumps([principal.name, principal.role, ends])).decode()
        return f"{told}.{self._signature(told)}"

    def read(self, value: str) -> Principal | None:
        """Return who holds this cookie; None if it is not ours, or over."""
        told, _, signature = value.rpartition(".")
        if len(value) > _LONGEST or not value.isascii():
            return None
        if not hmac.compare_digest(signature, self._signature(told)):
            return None
        name, role, ends = orjson.loads(base64.urlsafe_b64decode(told))
        return Principal(name, role) if role in ROLES and self._clock() < ends else None

    def _signature(self, told: str) -> str:
        return hmac.new(self._key, told.encode(), hashlib.sha256).hexdigest()
