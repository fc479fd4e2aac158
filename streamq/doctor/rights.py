"""Check what the user may do: every command of every script is tried for each role, and none is executed.

Owns these trials, and the wording for missing rights. `needs` defines what a role needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from streamq.doctor.check import Check, fault, ok, unknown, warning
from streamq.doctor.needs import DISPENSABLE, ROLES, command_of, needed
from streamq.doctor.node import permitted
from streamq.doctor.samples import Command, sample
from streamq.namespace import namespace_of
from streamq.transport.acl_trial import UNKNOWN, refusals
from streamq.transport.sync_transport import SyncTransport

_RESTORE: Final = "take rename-command out of its configuration, or leave out the proxy"


def checks(
    transport: SyncTransport, app: str, user: str | None, roles: Sequence[str] = tuple(ROLES)
) -> Iterator[Check]:
    """Report which of these roles the user can fill. `user`: another user than the connected one (ACL
    DRYRUN)."""
    lacking = {name: _lacking(transport, app, user, needed(ROLES[name])) for name in roles}
    shown = f"user {user or _whoami(transport)}"
    if None in lacking.values():
        fix = "ACL SETUSER <user> +multi, or run this as a user with +acl"
        yield unknown("rights", f"the rights of {shown} cannot be checked", fix)
        return
    if absent := dict.fromkeys(one for refused in lacking.values() for one in _done_without(refused or ())):
        differs = "; ".join(f"without {name} {DISPENSABLE[name]}" for name in absent)
        yield warning("commands", f"the server does not have {', '.join(absent)}: {differs}", _RESTORE)
    lacking = {name: _needed_of(refused or ()) for name, refused in lacking.items()}
    able = [name for name, refused in lacking.items() if not refused]
    if able:
        yield ok("rights", f"{shown} may be {', '.join(able)}")
    # One user per role is good practice, so missing rights are a fault only if the user cannot do anything
    # useful. To observe is useful only if no more was asked for.
    useful = bool(set(able) - ({"observer"} if "worker" in roles else set()))
    for name, refused in lacking.items():
        if refused:
            yield _refused(shown, name, refused, namespace_of(app).rights, useful=useful)


def _done_without(refused: Iterable[tuple[str, str]]) -> list[str]:
    """Return the commands among these that the server does not have and that streamq does without."""
    return [name.split()[0] for name, why in refused if UNKNOWN in why and name.split()[0] in DISPENSABLE]


def _needed_of(refused: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of these that must be allowed."""
    return [(name, why) for name, why in refused if not _done_without([(name, why)])]


def _refused(
    shown: str, role: str, refused: Sequence[tuple[str, str]], rights: tuple[str, str], *, useful: bool
) -> Check:
    if missing := dict.fromkeys(command_of(name) for name, why in refused if UNKNOWN in why):
        finding = f"nobody can be {role} here: the server does not have {', '.join(missing)}"
        return fault("rights", finding, _RESTORE)
    names = list(dict.fromkeys(command_of(name) for name, why in refused if "command" in why))
    rest = [why for _, why in refused if "command" not in why]
    finding = f"{shown} cannot be {role}: no right to {', '.join(names[:8]) or rest[0]}"
    if len(names) > 8:
        finding += f" and {len(names) - 8} more"
    grants = [f"+{name.lower().replace(' ', '|')}" for name in names]
    if any("key" in why for why in rest):
        grants.append(rights[0])
    if any("channel" in why for why in rest):
        grants.append(f"'{rights[1]}'")
    fix = f"redis-cli ACL SETUSER {shown.removeprefix('user ')} {' '.join(grants)}"
    return (
        warning("rights", finding, f"if it should be one: {fix}") if useful else fault("rights", finding, fix)
    )


def _lacking(
    transport: SyncTransport, app: str, user: str | None, names: Sequence[str]
) -> list[tuple[str, str]] | None:
    commands = [sample(name, app) for name in names]
    answers = refusals(transport, commands) if user is None else None
    if answers is None:
        answers = _dry(transport, user or _whoami(transport), commands)
    if answers is None:
        return None
    return [(name, why) for name, why in zip(names, answers, strict=True) if why]


def _dry(transport: SyncTransport, user: str, commands: Sequence[Command]) -> list[str] | None:
    answers: list[str] = []
    for command in commands:
        if command[0] == "WAITAOF" and not _has_waitaof(transport):
            answers.append("")
            continue
        reply = permitted(transport, "ACL", "DRYRUN", user, *command)
        if not isinstance(reply, bytes):
            return None
        answers.append("" if reply == b"OK" else reply.decode("utf-8", "replace"))
    return answers


def _has_waitaof(transport: SyncTransport) -> bool:
    """Return whether the server has WAITAOF (Redis from 7.2 on). A right to a missing command cannot be
    missing."""
    return permitted(transport, "COMMAND", "INFO", "WAITAOF") not in ([None], [[]], [])


def _whoami(transport: SyncTransport) -> str:
    name = permitted(transport, "ACL", "WHOAMI")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else "(unnamed)"
