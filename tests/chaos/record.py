"""The history by what it is about: each task as its producer saw it, and the events of each id. Pure.

Owns the reading of events. Judges nothing but that one id was given to two calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.history import Event

REGROUPED_FOR: Final = 15
"""Seconds for which a destroyed group explains that an entry was handed over twice: what was fetched before
may wait for its slot, or in a stopped process, for so long."""
_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule. `task` is an id, a producer's key, or a task type."""

    rule: str
    task: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.task}: {self.detail}"


@dataclass
class Asked:
    """A task as its producer saw it.

    told: invoke, accepted, joined (it is a task that existed), unknown or refused. asked, answered: the
    events of the call. holder: who has the key, where that is why it was refused.
    """

    type: str
    conduct: str
    asked: Event
    told: str = "invoke"
    id: str | None = None
    answered: Event | None = None

    @property
    def expires(self) -> bool:
        return "expires" in self.asked

    @property
    def holder(self) -> str | None:
        return None if self.answered is None else self.answered.get("holder")

    def precedes(self, other: Asked) -> bool:
        """Whether it was accepted before the other could be: told before that was asked, or ahead of it in
        the same call."""
        if self.asked.get("call") is not None and self.asked["call"] == other.asked.get("call"):
            return bool(self.asked["number"] < other.asked["number"])
        return self.answered is not None and bool(self.answered["at"] < other.asked["at"])


@dataclass
class History:
    """The events by what they are about."""

    asked: dict[str, Asked] = field(default_factory=dict)
    by_id: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    faults: list[Event] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    doubled: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> History:
        found = cls()
        for event in events:
            found._take(event)
        return found

    def _take(self, event: Event) -> None:
        name = event["event"]
        if name == "invoke":
            self.asked[event["key"]] = Asked(event["type"], event["conduct"], event)
        elif name in ("accepted", "joined", "unknown", "refused"):
            asked = self.asked[event["key"]]
            asked.told, asked.id, asked.answered = name, event.get("id"), event
        elif name == "fault":
            self.faults.append(event)
        if name == "accepted":
            if (other := self.accepted.get(event["id"])) is not None:
                self.doubled.append(Finding("one id twice", event["id"], f"for {other} and {event['key']}"))
            self.accepted[event["id"]] = event["key"]
        if "id" in event:
            self.by_id[event["id"]].append(event)
            if "key" in event:
                self.ids[event["key"]].add(event["id"])

    def of_task(self, task: str, *names: str) -> list[Event]:
        return [event for event in self.by_id.get(task, []) if event["event"] in names]

    def regrouped(self, since: int, until: int) -> bool:
        """Whether entries that were in hand may have become ready again behind their holders' backs."""
        kinds = ("group_destroyed", "consumer_deleted")
        earliest = since - REGROUPED_FOR * _S
        return any(event["kind"] in kinds and earliest < event["at"] < until for event in self.faults)
