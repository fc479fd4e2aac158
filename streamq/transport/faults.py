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
_FIXES: Final = {
    "READONLY": "it is a replica; name its master, or its sentinels with redis+sentinel://",
    "MISCONF": "look at its disk and its log",
    "NOREPLICAS": "too few of its replicas are connected for its min-replicas-to-write",
}
"""What to do where the server goes on being not ready."""
_NO_ACCESS: Final = ("ermissions to access", "access at least one of the keys")
"""What servers say of keys and channels that a user may not touch, asked for by itself or by a script."""
_LOGIN: Final = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password")


_CODES: Final[dict[type[Exception], str]] = {
    lib.MovedError: "MOVED",
    lib.AskError: "ASK",
    lib.TryAgainError: "TRYAGAIN",
    lib.MasterDownError: "MASTERDOWN",
    lib.ClusterDownError: "CLUSTERDOWN",
    lib.ReadOnlyError: "READONLY",
    lib.BusyLoadingError: "LOADING",
}
"""Errors of which the client library drops the first word."""
_DOUBTFUL: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN")
_DEMOTED: Final = "instance state changed"
"""What a blocked client is told when its master becomes a replica: UNBLOCKED force unblock from …"""


class GroupMissing(ServerError):
    """A stream or its consumer group is gone: create it anew, from the first entry, and go on."""


class ServerChanged(Exception):
    """The call was not sent: who would be asked is another incarnation of the server than was meant."""

    def __init__(self, incarnation: str) -> None:
        super().__init__("the server restarted or failed over")
        self.incarnation = incarnation


def told(error: Exception) -> str:
    """What the server said, with its first word."""
    code = _CODES.get(type(error))
    return f"{code} {error}" if code else str(error)


def denied(error: Exception) -> bool:
    """Whether the server refused the login, or the command to this user."""
    kinds = lib.AuthenticationError | lib.NoPermissionError | lib.AuthorizationError
    return isinstance(error, kinds) or (
        isinstance(error, lib.ResponseError) and str(error).startswith(_LOGIN)
    )


def doubtful(error: Exception) -> bool:
    """Whether it is to be asked anew who should be asked."""
    if isinstance(error, lib.ResponseError):
        text = told(error)
        return text.startswith(_DOUBTFUL) or _DEMOTED in text
    return True


def translate(error: Exception, where: str) -> RedisError:
    """Our error for one of the client library or the operating system."""
    text = told(error)
    if isinstance(error, RedisError):
        return error
    if "certificate verify failed" in text.lower():
        return ServerError(
            f"the certificate of {where} is not to be trusted ({text}): name the authority that signed it "
            "with ?ssl_ca_certs=/path/to/ca.pem in the URL"
        )
    if denied(error):
        return _login_failed(where, text)
    if isinstance(error, lib.BusyLoadingError):
        return RedisUnavailable(f"{where} is not ready: {text}")
    if isinstance(error, lib.ConnectionError | lib.TimeoutError | OSError):
        tls = ", and does it take TLS there" if where.startswith(("rediss", "valkeys")) else ""
        why = text.rstrip(".") or type(error).__name__
        return RedisUnavailable(f"no connection to {where}: {why}. Is the server running{tls}?")
    if isinstance(error, lib.ResponseError):
        return _answered(where, text)
    return ServerError(f"{where}: {type(error).__name__}: {text}")


def naming_rights(error: RedisError, rights: tuple[str, str]) -> RedisError:
    """The same error, with the ACL rules that the user needs where keys or channels were refused."""
    text = str(error)
    if not isinstance(error, AuthenticationFailed | ServerError) or not any(
        one in text for one in _NO_ACCESS
    ):
        return error
    keys, channels = rights
    return AuthenticationFailed(f"{text}. The user needs {keys} for keys and '{channels}' for channels")


def _answered(where: str, text: str) -> RedisError:
    if text.startswith(_TRANSIENT) or _DEMOTED in text:
        return RedisUnavailable(f"{where} is not ready: {text.rstrip('.')}{_fix(text)}")
    if text.startswith(("NOGROUP", "UNBLOCKED")):
        return GroupMissing(text)
    if text.startswith("OOM") or "command not allowed when used memory" in text:
        return ServerFull(
            f"{where} is at its memory limit and takes no new tasks: "
            "raise maxmemory, let workers drain, or purge dead letters"
        )
    if text.startswith(("MOVED", "ASK")):
        return ServerError(
            f"{where} is a node of a cluster: write its URL with +cluster, as redis+cluster://"
        )
    return ServerError(f"{where} refused a call: {text}")


def _fix(text: str) -> str:
    return next((f": {fix}" for code, fix in _FIXES.items() if text.startswith(code)), "")


def _login_failed(where: str, text: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"{where} refused the login or the command ({text}): "
        "check user and password in the URL, and the user's ACL"
    )


def final(error: RedisError, sent: list[bool]) -> RedisError:
    """What the caller is told at last: whether one of the tries may have been carried out.

    A refusal at the end, such as that the server is full by now, says nothing of a try before it.
    """
    if not sent:
        return error
    return OutcomeUnknown(f"no answer whether the call was carried out: {error}")
