"""Asks whether commands would be allowed, without running one of them.

Owns one connection for that: the commands are queued in a transaction, which is where the server checks
the user's rights, and the transaction is discarded.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis import exceptions as lib

from streamq.transport.faults import translate
from streamq.transport.link import SyncLink
from streamq.transport.sync_transport import SyncTransport


def refusals(transport: SyncTransport, commands: Sequence[Sequence[str]]) -> list[str] | None:
    """For each command the server's refusal, '' where it is allowed; None where that cannot be asked.

    Raises RedisErrors.
    """
    link = None
    try:
        link = transport.open(transport.find(None) or transport.discovered(None))
        link.ask("MULTI")
        return [_refusal(link, command) for command in commands]
    except lib.ResponseError:
        return None  # no transactions for this user
    except (lib.RedisError, OSError) as error:
        raise translate(error, str(transport.address), transport.address.source) from None
    finally:
        # The transaction ends with its connection.
        if link is not None:
            link.close()


def _refusal(link: SyncLink, command: Sequence[str]) -> str:
    try:
        link.ask(*command)
    except lib.NoPermissionError as error:
        return str(error)
    except lib.ResponseError:
        return ""  # another fault, such as a slot of another node: the rights were looked at before
    return ""
