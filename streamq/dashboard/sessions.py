"""Sessions: after a login, a browser keeps its principal in a signed cookie.

Owns the cookie's form and the key that signs it, which exists in this process only: a restart ends all
sessions. Stores nothing for each session, so memory is bounded. Must not decide who may log in.
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
"""Duration of a session in seconds."""
_LONGEST: Final = 2048


class Sessions:
    """Issues and reads session cookies. clock: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock

    def issue(self, principal: Principal) -> str:
        """Return the cookie's value for a principal."""
        ends = int(self._clock()) + LIFETIME
        content = base64.urlsafe_b64encode(orjson.dumps([principal.name, principal.role, ends])).decode()
        return f"{content}.{self._signature(content)}"

    def read(self, value: str) -> Principal | None:
        """Return the principal of a cookie; None if it is invalid or expired."""
        content, _, signature = value.rpartition(".")
        if len(value) > _LONGEST or not value.isascii():
            return None
        if not hmac.compare_digest(signature, self._signature(content)):
            return None
        name, role, ends = orjson.loads(base64.urlsafe_b64decode(content))
        return Principal(name, role) if role in ROLES and self._clock() < ends else None

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()
