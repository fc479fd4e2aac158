"""The dead letters that a command selects: by id, or by type, group, error and age.

Owns the options that all verbs of `streamq dead` share and their meaning, so that `list`, `requeue` and
`purge` with the same options select the same letters.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamq.cli import target
from streamq.cli.output import write_message
from streamq.control.dead_letters import DeadGroup, DeadSelection
from streamq.errors import UsageError
from streamq.options.names import check_name

SINCE: Final = "the task died"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the filters."""
    parser.add_argument("--type", metavar="TYPE", help="of this task type")
    parser.add_argument("--group", metavar="FINGERPRINT", help="of this group of `streamq dead groups`")
    parser.add_argument(
        "--error", metavar="TEXT", help="with this text in the exception's name or the reason"
    )
    target.span_options(parser, SINCE)


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for an empty filter: it would select everything."""
    for name in ("type", "group", "error"):
        if getattr(args, name) == "":
            raise UsageError(f"--{name} is empty: set a value, or leave it out")
    if args.type:
        check_name(args.type)
    target.span(args)


def filtered(args: argparse.Namespace) -> bool:
    """Return whether any filter is given."""
    filters = (args.type, args.group, args.error, args.older_than, args.newer_than)
    return any(one is not None for one in filters)


def selections(found: target.Target, args: argparse.Namespace) -> list[DeadSelection]:
    """Return one selection for each selected task type."""
    span, now_ms = target.span(args), found.inspector.now_ms()
    # What dies during the confirmation was not in the count, and is not selected.
    until = now_ms - round((span.older_than or 0) * 1000)
    since = 0 if span.newer_than is None else now_ms - round(span.newer_than * 1000)
    types = target.known(found, [args.type]) if args.type else found.inspector.types()
    # An age beyond the epoch is any age.
    return [
        DeadSelection(name, args.group or "", args.error or "", max(0, since), max(0, until))
        for name in types
    ]


@dataclass(frozen=True, slots=True)
class Counted:
    """The selections, each with its number of dead letters; none is in two of them."""

    parts: list[tuple[DeadSelection, int]]

    @property
    def total(self) -> int:
        return sum(number for _, number in self.parts)

    def __str__(self) -> str:
        """Return, for example, 1,204 dead letters (email 1,200, sms 4)."""
        types = ", ".join(f"{one.type} {number:,}" for one, number in self.parts)
        return f"{self.total:,} dead letter{'' if self.total == 1 else 's'}" + (
            f" ({types})" if types else ""
        )


def count(found: target.Target, chosen: Sequence[DeadSelection]) -> Counted:
    """Count the selected dead letters; types without any are left out."""
    numbers = [(one, found.inspector.count_dead(one)) for one in chosen]
    return Counted([(one, number) for one, number in numbers if number])


def groups(found: target.Target, args: argparse.Namespace) -> tuple[list[DeadGroup], bool]:
    """Return the groups with selected dead letters, and whether the list is complete."""
    groups, complete = list[DeadGroup](), True
    for one in selections(found, args):
        known = found.inspector.dead_groups(one.type)
        groups += [group for group in known.groups if _matches(group, one)]
        complete = complete and known.complete
        target.report_faults(known.faults)
    return sorted(groups, key=lambda group: -group.count), complete


def _matches(group: DeadGroup, chosen: DeadSelection) -> bool:
    return (
        chosen.fingerprint in ("", group.fingerprint)
        and group.matches(chosen.error)
        and group.last_ms >= chosen.since_ms
        and group.first_ms <= chosen.until_ms
    )


def report_incomplete() -> None:
    write_message("not all groups are shown: use --type or --group")
