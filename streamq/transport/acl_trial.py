"""Checks which commands the server would allow, without executing any.

Owns one connection for that: the commands are queued in a transaction, for which the server checks the user's
rights, and the transaction is discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from redis import exceptions as lib

from streamq.transport.faults import translate
from streamq.transport.sync_link import SyncLink
from streamq.transport.sync_transport import SyncTransport

UNKNOWN: Final = "unknown command"
"""In the error for a command that the server does not have."""
_NEWER: Final = ("WAITAOF",)
"""Commands that the oldest supported server lacks."""


def refusals(transport: SyncTransport, commands: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the server's refusal of each command, '' if it is allowed; None if that cannot be checked. An
    unknown command is refused, except one that only newer servers have.

    Raises RedisErrors.
    """
    link = None
    try:
        link = transport.open(transport.find(None) or transport.discover(None))
        link.ask("MULTI")
        return [_refusal(link, command) for command in commands]
    except lib.ResponseError:
        return None  # no transactions for this user
    except (lib.RedisError, OSError) as error:
        raise translate(error, str(transport.address), transport.address.source) from None
    finally:
        # The server discards the transaction with its connection.
        if link is not None:
            link.close()


def _refusal(link: SyncLink, command: Sequence[str]) -> str:
    try:
        link.ask(*command)
    except lib.NoPermissionError as error:
        return str(error)
    except lib.ResponseError as error:
        if UNKNOWN in str(error) and command[0] not in _NEWER:
            return str(error)
        return ""  # another error, such as a slot of another node: the rights were checked before that
    return ""
