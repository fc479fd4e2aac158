"""Translates the client library's errors into streamq's, and so decides what may be tried again.

Owns the map. `RedisUnavailable` is the only error after which a call is sent again. Must not send anything.
"""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions as lib

from streamq.calls.call import AnyCall
from streamq.errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
    ServerError,
    ServerFull,
)
from streamq.transport import unreachable
from streamq.transport.budget import OUT_OF_TIME, Budget

_UNKNOWN: Final = re.compile(
    r"(?:unknown|unsupported|disabled|not supported|forbidden)[^'`\"]{0,40}command[^'`\"a-zA-Z]{0,10}['`\"]?"
    r"([A-Za-z]{2,20})|command ['`\"]?([A-Za-z]{2,20})['`\"]? (?:is )?(?:unknown|unsupported|disabled|not)",
    re.IGNORECASE,
)
"""The error texts of servers and proxies that lack a command."""
NO_COMMAND: Final = "command called from script"
"""In the error for a command that a script needs and the server does not have."""
_TRANSIENT: Final = (
    "LOADING", "BUSY ", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
    "UNKILLABLE", "ERR max number of clients", "max number of clients",
)  # fmt: skip
_FIXES: Final = {
    "LOADING": "it loads its data from disk and is ready when that is done",
    "BUSY ": "a script or module blocks it; SCRIPT KILL ends a script that has written nothing",
    "READONLY": "it is a replica; name its master, or its sentinels with redis+sentinel://",
    "MASTERDOWN": "it is a replica that lost its master; check the master, or name it in the URL",
    "MISCONF": "check its disk and its log",
    "CLUSTERDOWN": "slots of the cluster have no master; see CLUSTER INFO",
    "NOREPLICAS": "fewer replicas are connected than its min-replicas-to-write asks for",
    "ERR max number": "raise maxclients on the server, or see in CLIENT LIST which clients hold connections",
    "max number": "raise maxclients on the server, or see in CLIENT LIST which clients hold connections",
}
"""What to do if the server stays unready."""
_NO_ACCESS: Final = ("ermissions to access", "access at least one of the keys")
"""The error texts for keys and channels that a user may not access, directly or in a script."""
_LOGIN: Final = (
    "NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH",
)  # fmt: skip
_IN_SCRIPT: Final = ("ACL failure", "NOPERM", "executing the script can't", "No permissions to access")
"""The error texts for a command that was refused within a script; they differ by server and release."""
_LOGIN_FIXES: Final = {
    "NOAUTH": "it requires a password: put it into the URL in front of the host, as in user:password@host",
    "WRONGPASS": "check user and password in the URL",
    "DENIED": "give the server a password (requirepass) or an address to listen on (bind)",
    "ERR AUTH": "the server has no password: check user and password in the URL, or leave them out",
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
"""The code of errors from which the client library strips it."""
_IN_SCRIPTS: Final = {"on a stale replica": "MASTERDOWN", "while the cluster is down": "CLUSTERDOWN"}
"""The code of errors of commands within a script, for which the server gives its general one."""
_STALE_ROUTE: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN")
_DEMOTED: Final = "instance state changed"
"""In the error for a blocked client whose master becomes a replica: UNBLOCKED force unblock from …"""


class GroupMissing(ServerError):
    """A stream or its consumer group does not exist: create it, from the first entry, and go on."""


class ServerChanged(Exception):
    """The call was not sent: the server is another incarnation than the one it is meant for."""

    def __init__(self, incarnation: str) -> None:
        super().__init__("the server restarted or failed over")
        self.incarnation = incarnation


def server_text(error: Exception) -> str:
    """Return the server's error text, with its code."""
    text = str(error)
    code = _CODES.get(type(error)) or next((one for words, one in _IN_SCRIPTS.items() if words in text), "")
    return f"{code} {text}" if code else text


def denied(error: Exception) -> bool:
    """Return whether the server refused the login, or denied the command to this user."""
    kinds = lib.AuthenticationError | lib.NoPermissionError | lib.AuthorizationError
    if isinstance(error, kinds):
        return True
    text = str(error)
    return isinstance(error, lib.ResponseError) and (
        text.startswith(_LOGIN) or any(words in text for words in _IN_SCRIPT)
    )


def route_is_stale(error: Exception) -> bool:
    """Return whether the node for the call must be discovered again."""
    if isinstance(error, lib.ResponseError):
        text = server_text(error)
        return text.startswith(_STALE_ROUTE) or _DEMOTED in text
    return True


def translate(error: Exception, where: str, source: str = "") -> RedisError:
    """Return streamq's error for one of the client library or the operating system. source: of the URL."""
    text = server_text(error)
    if isinstance(error, RedisError):
        return error
    if "certificate verify failed" in text.lower():
        return ServerError(
            f"cannot verify the certificate of {where}: {text}. Name the authority that signed it with "
            "?ssl_ca_certs=/path/to/ca.pem in the URL"
        )
    if denied(error):
        return _login_failed(where, text)
    if isinstance(error, lib.BusyLoadingError):
        return RedisUnavailable(f"{where} is not ready: {text.rstrip('.')}: {_FIXES['LOADING']}")
    if isinstance(error, lib.InvalidResponse):
        return ServerError(unreachable.no_redis(where, text))
    if isinstance(error, lib.ConnectionError | lib.TimeoutError | OSError) and not text.startswith(
        _TRANSIENT
    ):
        return RedisUnavailable(unreachable.no_connection(where, error, source))
    if isinstance(error, lib.ResponseError | lib.ConnectionError):
        return _of_reply(where, text)
    return ServerError(f"{where}: {type(error).__name__}: {text}")


def naming_rights(error: RedisError, rights: tuple[str, str]) -> RedisError:
    """Return the error with the ACL rules that the user needs, if keys or channels were refused."""
    text = str(error)
    if not isinstance(error, AuthenticationFailed | ServerError) or not any(
        one in text for one in _NO_ACCESS
    ):
        return error
    keys, channels = rights
    return AuthenticationFailed(f"{text}. The user needs {keys} for keys and '{channels}' for channels")


def _of_reply(where: str, text: str) -> RedisError:
    if text.startswith(_TRANSIENT) or _DEMOTED in text:
        return RedisUnavailable(f"{where} is not ready: {text.rstrip('.')}{_fix(text)}")
    if text.startswith(("NOGROUP", "UNBLOCKED")):
        return GroupMissing(text)
    if text.startswith("OOM") or "command not allowed when used memory" in text:
        return ServerFull(
            f"{where} is at its memory limit and accepts no new tasks. "
            "Raise maxmemory, let workers drain the queue, or purge dead letters"
        )
    if text.startswith(("MOVED", "ASK")):
        return ServerError(
            f"{where} is a node of a cluster. Write its URL with +cluster, as redis+cluster://"
        )
    if (missing := _missing_command(text)) is not None:
        said = text.partition(", with args")[0]  # these are long, and no part of the fault
        return ServerError(
            f"{where} does not accept {missing} ({said}): it is renamed or disabled there, or a proxy in "
            "between rejects it. Connect to the server itself"
        )
    if "DB index is out of range" in text or "invalid DB index" in text:
        return ServerError(f"{where} has no such database ({text}). Correct its number in the URL")
    if "SELECT is not allowed in cluster mode" in text:
        return ServerError(
            f"{where} is a node of a cluster, which has database 0 only. Write redis+cluster://host:port"
        )
    return ServerError(f"{where} refused a call: {text}")


def _missing_command(text: str) -> str | None:
    """Return what the server lacks, if that is its error: a server does not name the command of a script."""
    if NO_COMMAND in text:
        return "a command that streamq's scripts need"
    unknown = _UNKNOWN.search(text)
    return (
        None if unknown is None else f"the command {(unknown[1] or unknown[2]).upper()}, which streamq needs"
    )


def _fix(text: str) -> str:
    return next((f": {fix}" for code, fix in _FIXES.items() if text.startswith(code)), "")


def _login_failed(where: str, text: str) -> AuthenticationFailed:
    default = "check user and password in the URL, and the user's ACL (`streamq doctor` names what it lacks)"
    fix = next((fix for code, fix in _LOGIN_FIXES.items() if text.startswith(code)), default)
    if fix is not default and not text.startswith("DENIED"):
        fix = f"{fix}; {default}" if "check user and password" not in fix else fix
    return AuthenticationFailed(f"{where} refused the login or the command ({text.rstrip('.')}): {fix}")


def node_removed(shown: str) -> RedisUnavailable:
    """Return the error for a node that no longer holds data."""
    return RedisUnavailable(f"{shown} no longer holds data: there was a failover, or its slots were moved")


def redirect_loop(shown: str) -> RedisUnavailable:
    """Return the error for a call that nodes redirected too often."""
    return RedisUnavailable(f"{shown} is not ready: the nodes redirect a call in a circle")


def more_specific(before: RedisError, now: RedisError) -> RedisError:
    """Return the error that explains more: the later one, unless it only says that the time was over and the
    one before says anything."""
    return before if OUT_OF_TIME in str(now) and str(before) else now


def outcome_error(error: RedisError, budget: Budget, call: AnyCall) -> RedisError:
    """Return the error to raise after the last try: OutcomeUnknown if a try may have been executed.

    A refusal of the last try, such as of a server that is full by now, does not tell the outcome of an
    earlier one. For a question the outcome does not matter.
    """
    if not budget or call.is_safe:
        return error
    return OutcomeUnknown(f"it is unknown whether the call was executed: {error}")
