"""The client library's errors -> ours: one place decides what may be tried again.

Owns the map. `RedisUnavailable` is the only error after which a call is sent again.
"""

from __future__ import annotations

import re
from typing import Any, Final

from redis import exceptions as lib

from streamq.calls.call import Call
from streamq.errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
    ServerError,
    ServerFull,
)
from streamq.transport import unreachable as reach
from streamq.transport.effort import OUT_OF_TIME, Effort

_UNKNOWN: Final = re.compile(
    r"(?:unknown|unsupported|disabled|not supported|forbidden)[^'`\"]{0,40}command[^'`\"a-zA-Z]{0,10}['`\"]?"
    r"([A-Za-z]{2,20})|command ['`\"]?([A-Za-z]{2,20})['`\"]? (?:is )?(?:unknown|unsupported|disabled|not)",
    re.IGNORECASE,
)
"""How servers and proxies say that they have no such command."""
_TRANSIENT: Final = (
    "LOADING", "BUSY ", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
    "UNKILLABLE", "ERR max number of clients", "max number of clients",
)  # fmt: skip
_FIXES: Final = {
    "LOADING": "it reads its data from disk and will be ready when it has",
    "BUSY ": "a script or module keeps it; SCRIPT KILL ends a script that has written nothing",
    "READONLY": "it is a replica; name its master, or its sentinels with redis+sentinel://",
    "MASTERDOWN": "it is a replica that has lost its master; look at the master, or name it in the URL",
    "MISCONF": "look at its disk and its log",
    "CLUSTERDOWN": "slots of the cluster have no master; look at CLUSTER INFO",
    "NOREPLICAS": "too few of its replicas are connected for its min-replicas-to-write",
    "ERR max number": "raise maxclients on the server, or see with CLIENT LIST who holds its connections",
    "max number": "raise maxclients on the server, or see with CLIENT LIST who holds its connections",
}
"""What to do where the server goes on being not ready."""
_NO_ACCESS: Final = ("ermissions to access", "access at least one of the keys")
"""What servers say of keys and channels that a user may not touch, asked for by itself or by a script."""
_LOGIN: Final = (
    "NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH",
)  # fmt: skip
_IN_SCRIPT: Final = ("ACL failure", "NOPERM", "executing the script can't", "No permissions to access")
"""How a refusal is told that a command within a script met; the words differ by server and release."""
_LOGIN_FIXES: Final = {
    "NOAUTH": "it wants a password: name the user and the password in the URL, as redis://user:password@host",
    "WRONGPASS": "check user and password in the URL",
    "DENIED": "give the server a password (requirepass) or the address that it may be reached at (bind)",
    "ERR AUTH": "the server has no password set: check user and password in the URL, or leave them out",
}


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
    if isinstance(error, kinds):
        return True
    text = str(error)
    return isinstance(error, lib.ResponseError) and (
        text.startswith(_LOGIN) or any(words in text for words in _IN_SCRIPT)
    )


def doubtful(error: Exception) -> bool:
    """Whether it is to be asked anew who should be asked."""
    if isinstance(error, lib.ResponseError):
        text = told(error)
        return text.startswith(_DOUBTFUL) or _DEMOTED in text
    return True


def translate(error: Exception, where: str, source: str = "") -> RedisError:
    """Our error for one of the client library or the operating system. `source`: where the URL is from."""
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
        return RedisUnavailable(f"{where} is not ready: {text}: {_FIXES['LOADING']}")
    if isinstance(error, lib.InvalidResponse):
        return ServerError(reach.no_redis(where, text))
    if isinstance(error, lib.ConnectionError | lib.TimeoutError | OSError) and not text.startswith(
        _TRANSIENT
    ):
        return RedisUnavailable(reach.no_connection(where, error, source))
    if isinstance(error, lib.ResponseError | lib.ConnectionError):
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
    if (lacking := _UNKNOWN.search(text)) is not None:
        command = (lacking[1] or lacking[2]).upper()
        return ServerError(
            f"{where} does not take the command {command}, which streamq needs ({text}): it is renamed or "
            "disabled there, or a proxy in between does not pass it on; name the server itself"
        )
    if "DB index is out of range" in text or "invalid DB index" in text:
        return ServerError(f"{where} has no such database ({text}): correct its number in the URL")
    if "SELECT is not allowed in cluster mode" in text:
        return ServerError(
            f"{where} is a node of a cluster, which has database 0 only: write redis+cluster://host:port"
        )
    return ServerError(f"{where} refused a call: {text}")


def _fix(text: str) -> str:
    return next((f": {fix}" for code, fix in _FIXES.items() if text.startswith(code)), "")


def _login_failed(where: str, text: str) -> AuthenticationFailed:
    usual = "check user and password in the URL, and the user's ACL (`streamq doctor` names what it lacks)"
    fix = next((fix for code, fix in _LOGIN_FIXES.items() if text.startswith(code)), usual)
    if fix is not usual and not text.startswith("DENIED"):
        fix = f"{fix}; {usual}" if "check user and password" not in fix else fix
    return AuthenticationFailed(f"{where} refused the login or the command ({text.rstrip('.')}): {fix}")


def gone(shown: str) -> RedisUnavailable:
    """The error where a node that was to be asked is no longer one of those that hold data."""
    return RedisUnavailable(f"{shown} holds no data any more: a failover, or its slots were moved")


def latest(before: RedisError, now: RedisError) -> RedisError:
    """Which of two errors says more of why there is no answer: not the one that time was up."""
    return before if OUT_OF_TIME in str(now) else now


def final(error: RedisError, effort: Effort, call: Call[Any]) -> RedisError:
    """What the caller is told at last: whether one of the tries may have been carried out.

    A refusal at the end, such as that the server is full by now, says nothing of a try before it. Of a
    question nobody need know.
    """
    if not effort or call.is_safe:
        return error
    return OutcomeUnknown(f"no answer whether the call was carried out: {error}")
