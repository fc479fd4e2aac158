"""Run the whole examination, from the server to the apps on it.

Owns the order of the checks, and which of them still run after one fails. Judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from streamq.control.heartbeats import daemons
from streamq.control.inspector import Inspector, apps
from streamq.control.unreadable import Unreadable
from streamq.doctor import needs, node, queue, rights, server, slots
from streamq.doctor.check import Check, fault, ok, unknown
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerError
from streamq.flow import drive
from streamq.transport.sync_transport import SyncTransport


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order in which to read them."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Return whether there is no fault; warnings do not count."""
        return all(check.status != "fault" for check in self.checks)


def examine(
    transport: SyncTransport,
    *,
    app: str | None = None,
    user: str | None = None,
    roles: Sequence[str] = tuple(needs.ROLES),
) -> Diagnosis:
    """Check the server, and one app or all apps on it. `user`: whose rights to check, if not the connected
    user's; `roles`: the roles that the user should be able to fill.

    Raises RedisUnavailable, ServerTooOld or AuthenticationFailed if the server cannot be examined.
    """
    return Diagnosis(tuple(_checks(transport, app, user, roles)))


def _checks(
    transport: SyncTransport, only: str | None, user: str | None, roles: Sequence[str]
) -> Iterator[Check]:
    asked = node.ask(transport)
    first = list(server.checks(asked, str(transport.address)))
    yield from first
    yield from _other_nodes(transport, asked, first)
    namespace = transport.address.namespace
    found: dict[str, int] = {}
    try:
        found = {name: record.known for name, record in apps(transport).items()}
    except AuthenticationFailed as error:
        yield unknown("apps", str(error), f"ACL SETUSER <user> +hgetall {namespace.rights[0]}")
    except (RedisUnavailable, ServerError) as error:
        yield fault("apps", str(error), "see the server error; on a cluster: redis-cli --cluster check")
    if only is not None:
        name = namespace.app(only)
        found = {name: found.get(name, 1)}
    some = namespace.app("app")
    yield from slots.checks(transport, asked, found or {some: 1})
    yield from rights.checks(transport, next(iter(found), some), user, roles)
    try:
        yield from _apps(transport, found)
    except AuthenticationFailed as error:
        yield unknown("queue", str(error), "run this as a user with read rights: see rights")
    except (RedisUnavailable, ServerError) as error:
        yield fault("queue", str(error), "for details: streamq audit")


def _other_nodes(transport: SyncTransport, asked: node.Node, first: list[Check]) -> Iterator[Check]:
    """Yield a cluster's faults of the other nodes that the first node did not have."""
    if asked.info.get("cluster_enabled") != "1":
        return
    finding = {(check.name, check.finding) for check in first}
    try:
        others = node.ask_all(transport)
    except (RedisUnavailable, ServerError) as error:
        yield fault("nodes", str(error), "find it with redis-cli --cluster check, then run this again")
        return
    for where, other in others.items():
        for check in server.checks(other, where):
            if check.status != "ok" and (check.name, check.finding) not in finding:
                yield replace(check, finding=f"{where.partition(' of ')[0]}: {check.finding}")


def _apps(transport: SyncTransport, found: dict[str, int]) -> Iterator[Check]:
    if not found:
        yield ok("apps", "none has used this server yet")
        return
    look = Unreadable()
    tending = drive(transport, daemons(transport.address.namespace, look))
    working = {name: Inspector(transport, name, shards).workers() for name, shards in found.items()}
    for name in found:
        yield from queue.daemons(tending, name)
    yield from queue.unreadable("daemons", look.faults)
    yield from queue.releases([*tending, *(one for listed in working.values() for one in listed)])
    yield from queue.features([one for listed in working.values() for one in listed])
    for name, shards in found.items():
        yield from queue.AppChecks(transport, name, shards).run(working[name])
