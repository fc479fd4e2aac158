"""The stored rows of schedules: where one lies, what it says, and writing it as it was seen.

Owns the search: the home shard of a name, then all others that may hold something, since the number of shards
may have been another when the schedule was put.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from streamq import joining
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import Row
from streamq.control.unreadable import Damaged, Unreadable
from streamq.errors import DecodeError, InvalidOption, RedisError, ServerError, UnknownSchedule, UsageError
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, shard_keys, type_keys
from streamq.model.reply import Note
from streamq.model.task import NewTask
from streamq.options.names import check_name
from streamq.payloads.pipeline import opened
from streamq.payloads.ring import index_key
from streamq.payloads.stage import About
from streamq.schedules import definition, registration, state
from streamq.schedules.definition import Definition
from streamq.schedules.registration import Change, Stored
from streamq.schedules.state import State
from streamq.shards import AppRecord, shard_of
from streamq.stored import mapping
from streamq.wording import listed

TRIES: Final = 20
"""How often a change is tried that finds the row changed by another."""
_PAGE: Final = 200
NO_NOTE: Final = producer_calls.NO_NOTE


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule as it was read. state: None where it is missing or damaged."""

    keys: ShardKeys
    row: Row
    state: State | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", state.read(self.row.state))

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def revision(self) -> int:
        """What a write must find."""
        return self.state.revision if self.state is not None else 0

    @property
    def stored(self) -> Stored | None:
        """What the rules of a change look at; None where no state is there to go on from."""
        if self.state is None:
            return None
        return Stored(
            self.state, str(mapping(self.row.definition or b"").get("print", "")), self._definition()
        )

    def _definition(self) -> Definition | None:
        try:
            return definition.read(self.row.definition)
        except (DecodeError, UsageError):  # to be replaced, also by who could not reckon with it
            return None

    def whole(self) -> tuple[State, Definition]:
        """Return how it stands and what it is. Raises ServerError where it is damaged, UsageError without the
        extra that it needs."""
        try:
            if self.state is not None:
                return self.state, definition.read(self.row.definition)
        except DecodeError as error:
            raise damaged(self.name, str(error)) from None
        raise damaged(self.name, "how it stands cannot be read")


def reckoned(found: Found) -> tuple[State, Definition]:
    """Return the same for a daemon, of which a missing extra is a fault of one row. Raises ServerError."""
    try:
        return found.whole()
    except UsageError as error:
        raise ServerError(f"schedule {found.name!r}: {error}") from None


class Rows:
    """The schedules of an app with at least so many shards."""

    def __init__(self, app: str, shards: int) -> None:
        self._app, self._shards = app, shards

    def record(self) -> Flow[AppRecord]:
        """Return what the server knows of the app."""
        found = yield from ask(producer_calls.app_record(self._app))
        return found or AppRecord(self._shards, self._shards)

    def _readable(self, look: Unreadable) -> Flow[AppRecord]:
        """Return the same; if it cannot be read, as if the app had only the shards that the code names."""
        ours = AppRecord(self._shards, self._shards)
        return (yield from look.ask(producer_calls.app_record(self._app), lambda: ours)) or ours

    def announced(self) -> Flow[AppRecord]:
        """Return the same, and make the app known where it is not: a daemon serves what is."""
        found = yield from ask(producer_calls.app_record(self._app))
        return found or (yield from ask(producer_calls.announce(self._app, self._shards)))

    def shards(self, record: AppRecord) -> list[ShardKeys]:
        """Return every shard that may hold something."""
        return [shard_keys(self._app, n) for n in range(max(record.known, self._shards))]

    def home(self, name: str, record: AppRecord, wanted: Definition | None = None) -> ShardKeys:
        """Return the shard that a new schedule of this name is put into: that of its runs' lane or key."""
        key = (wanted.home if wanted is not None else "") or name
        return shard_keys(self._app, shard_of(key, record.shards))

    def find(self, name: str, record: AppRecord) -> Flow[Found | None]:
        """Return the schedule of this name. Raises Damaged if it may be in a shard that cannot be read."""
        home, look = self.home(name, record), Unreadable()
        for keys in [home, *(keys for keys in self.shards(record) if keys != home)]:
            row = yield from look.ask(schedule_calls.read(keys, name), lambda: Row(name, None, None))
            if row.definition is not None or row.state is not None:
                return Found(keys, row)
        if look.faults:
            raise Damaged(f"schedule {name!r}: the schedules {look.faults[0]}")
        return None

    def existing(self, name: str) -> Flow[Found]:
        """Return the schedule of this name. Raises UnknownSchedule."""
        check_name(name, "a schedule")
        found = yield from self.find(name, (yield from self._readable(Unreadable())))
        if found is None:
            raise UnknownSchedule(f"app {self._app!r} has no schedule {name!r}{(yield from self._others())}")
        return found

    def _others(self) -> Flow[str]:
        look = Unreadable()
        try:
            names = sorted(one.name for one in (yield from self.all(look)))
        except RedisError:  # the user may not list them
            return ""
        return "; ".join(
            ["", *([f"it has: {listed(names)}"] if names or not look.faults else []), *look.faults]
        )

    def all(self, look: Unreadable) -> Flow[list[Found]]:
        """Return all schedules. A shard whose key cannot be read is left out, and so are shards of which only
        the app's record tells if that cannot be read: `look` has the faults."""
        record = yield from self._readable(look)
        found: list[Found] = []
        for keys in self.shards(record):
            found += [Found(keys, row) for row in (yield from rows_of(keys, look))]
        return found

    def change(
        self, name: str, change: Callable[[State, Definition, int], Change | None], told: Note = NO_NOTE
    ) -> Flow[bool]:
        """Change a row; return whether there was something to change. Raises UnknownSchedule."""
        tried = False
        for _ in range(TRIES):
            found = yield from self.existing(name)
            before, known = found.whole()
            now = yield from ask(question_calls.now(found.keys.schedules))
            made = change(before, known, now)
            if made is None:
                return tried  # where the reply to a call of ours was lost, the first sending has done it
            tried = True
            if (yield from write(found, made, told=told)):
                return True
        raise busy(name)


def rows_of(keys: ShardKeys, look: Unreadable) -> Flow[list[Row]]:
    """Return the rows of a shard, page by page."""
    found: dict[str, Row] = {}
    cursor = ""
    while True:
        cursor, rows = yield from look.ask(
            schedule_calls.page(keys, cursor, _PAGE), lambda: ("", list[Row]())
        )
        found.update({row.name: row for row in rows})
        if not cursor:
            return list(found.values())


def write(
    found: Found, change: Change, wanted: Definition | None = None, payload: bytes = b"", told: Note = NO_NOTE
) -> Flow[bool]:
    """Write a row if it is as it was read."""
    stored = b"" if wanted is None else wanted.stored()
    return ask(
        schedule_calls.write(
            found.keys, found.name, found.revision, change.state.stored(), change.due, stored, payload, told
        )
    )


def upgrade(app: str, found: Found) -> Flow[None]:
    """Give a definition the lane and the key that the type's policy asks for by now. Raises ServerError where
    its arguments cannot be read here."""
    state, known = found.whole()
    t = type_keys(found.keys.app, found.keys.shard, known.type)
    policy = yield from ask(question_calls.policy(t))
    payload = yield from ask(schedule_calls.payload(found.keys, found.name))
    try:
        wanted = completed(app, known, policy, payload or b"")
    except (ValueError, InvalidOption) as error:  # a DecodeError too
        why = f"which lane or unique key a run has cannot be told: {error}"
        raise damaged(found.name, why) from None
    change = registration.as_it_is(found.name, state, wanted)
    yield from write(found, change, wanted, payload or b"")


def completed(app: str, known: Definition, policy: Mapping[str, str], payload: bytes) -> Definition:
    """Return a definition with what it lacks of the policy. Raises DecodeError and InvalidOption."""
    rules, before = joining.of_policy(policy), known.parts
    lock = rules.lock if "unique" not in before else None
    task = NewTask(b"", fields=tuple(pair for pair in known.fields))
    raw = opened(payload, About(app, known.type, "payload"))
    joined = joining.join(known.type, task, rules, raw, lock=lock, secret=index_key(app))
    told = {**joining.parts(joining.of_run(joined)), **before}
    fields = tuple((name, str(value)) for name, value in joined.task.fields)
    joins = orjson.dumps(told).decode() if told else ""
    return replace(known, joins=joins, home=known.home or joined.home or "", fields=fields)


def damaged(name: str, why: str) -> ServerError:
    """What is said of a row that cannot be worked with."""
    return ServerError(f"schedule {name!r}: {why}. Put it again, or remove it")


def busy(name: str) -> RedisError:
    """What is said where others change a row all the time."""
    return ServerError(f"schedule {name!r} was changed by others during each try: try again")
