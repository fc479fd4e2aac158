"""The client library's errors -> ours: one place decides what may be tried again.

Owns the map. `RedisUnavailable` is the only error after which a call is sent again.
"""

from __future__ import annotations

from typing import Final

from redis import exceptions as lib

from streamq.errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
    ServerError,
    ServerFull,
)

_TRANSIENT: Final = (
    "LOADING", "BUSY ", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
    "UNKILLABLE",
)  # fmt: skip
_LOGIN: Final = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password")


class GroupMissing(ServerError):
    """A stream or its consumer group is gone: create it anew, from the first entry, and go on."""


def translate(error: Exception, where: str) -> RedisError:
    """Our error for one of the client library or the operating system."""
    text = str(error)
    if isinstance(error, lib.AuthenticationError | lib.NoPermissionError | lib.AuthorizationError):
        return _login_failed(where, text)
    if isinstance(error, lib.BusyLoadingError | lib.ReadOnlyError):
        return RedisUnavailable(f"{where} is not ready: {text}")
    if isinstance(error, lib.ConnectionError | lib.TimeoutError | OSError):
        return RedisUnavailable(
            f"no connection to {where}: {text or type(error).__name__}. Is the server running?"
        )
    if isinstance(error, lib.ResponseError):
        return _answered(where, text)
    return ServerError(f"{where}: {type(error).__name__}: {text}")


def _answered(where: str, text: str) -> RedisError:
    if text.startswith(("NOGROUP", "UNBLOCKED")):
        return GroupMissing(text)
    if text.startswith("OOM") or "command not allowed when used memory" in text:
        return ServerFull(
            f"{where} is at its memory limit and takes no new tasks: "
            "raise maxmemory, let workers drain, or purge dead letters"
        )
    if text.startswith(_TRANSIENT):
        return RedisUnavailable(f"{where} is not ready: {text}")
    if text.startswith(_LOGIN):
        return _login_failed(where, text)
    return ServerError(f"{where} refused a call: {text}")


def _login_failed(where: str, text: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"{where} refused the login or the command ({text}): "
        "check user and password in the URL, and the user's ACL"
    )


def final(error: RedisUnavailable, sent: list[bool]) -> RedisUnavailable:
    """What the caller is told at last: whether one of the tries may have been carried out."""
    if not sent:
        return error
    return OutcomeUnknown(f"no answer whether the call was carried out: {error}")
