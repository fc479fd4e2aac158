"""Audits one app: which walks there are, in which order, and what becomes of a fault.

Owns the order, which matters for repairs: the index is right about all that lives once the streams and
the schedule have been walked, so a row that names an empty place is a leftover then. Runs calls through
the transport it is given.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Literal

from streamq import calls
from streamq.audit import keyspace, walks
from streamq.audit.fault import FAULTS, Audit, Problem, Repaired
from streamq.audit.repairs import REPAIRS
from streamq.audit.walks import LATE_MS, Ask, Found
from streamq.calls import Fault, FaultCode
from streamq.errors import ServerError
from streamq.keys import HOLDING, KnownKey, TypeKeys, shard_keys, type_keys
from streamq.model import NAME_PATTERN, Counts
from streamq.transport import SyncTransport

LISTED: Final = 1000
"""Problems of one kind in one task type that are listed one by one; the rest is counted."""
OVERDUE_MS: Final = 10_000
SECOND_LOOK: Final = 1.0
"""Seconds between two looks at something that a daemon might be about to do."""
WAITERS_LATE_MS: Final = 600_000

Mode = Literal["look", "dry", "repair"]


class Auditor:
    """Audits an app on a server; see Audit. `progress` is told how much has been checked."""

    def __init__(
        self,
        transport: SyncTransport,
        app: str,
        shards: int,
        *,
        mode: Mode = "look",
        write_off: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._transport = transport
        self._ask = Ask(transport.run)
        self._app, self._shards = app, shards
        self._mode, self._write_off = mode, write_off
        self._progress = progress
        self._audit = Audit()
        self._listed: Counter[tuple[FaultCode, str, int]] = Counter()
        self._unsound: set[tuple[str, int]] = set()

    def run(self) -> Audit:
        """Look at everything once. Raises RedisErrors."""
        types = self._keys()
        for shard in range(self._shards):
            for name in sorted(types[shard]):
                self._type(type_keys(self._app, shard, name))
        return self._audit

    # -- the keys as such ------------------------------------------------------------------------------

    def _keys(self) -> list[set[str]]:
        """Walk over the keys; answers the task types of each shard."""
        listed = [self._names(shard) for shard in range(self._shards)]
        found: list[set[str]] = [set() for _ in listed]
        for step in keyspace.walk(self._transport, self._app, self._shards):
            for known, _ in step.known:
                if known.shard < self._shards and known.type and known.kind in _USED:
                    found[known.shard].add(known.type)
            for known, fault in step.faults:
                self._judge_key(known, fault)
        for shard, names in enumerate(found):
            for name in sorted(names - listed[shard]):
                self._judge(type_keys(self._app, shard, name), Fault("unlisted_type", name))
        return [names | listed[shard] for shard, names in enumerate(found)]

    def _names(self, shard: int) -> set[str]:
        try:
            names = self._ask(calls.types(shard_keys(self._app, shard)))
        except ServerError:  # of the wrong kind: the walk over the keys says so
            return set()
        return {name for name in names if NAME_PATTERN.fullmatch(name)}

    def _judge_key(self, known: KnownKey, fault: Fault) -> None:
        t = type_keys(self._app, known.shard, known.type)
        if fault.code == "wrong_kind":
            if known.kind == "counters":
                fault = Fault("wrong_kind_counters", fault.where)
                if self._recounted(t):
                    return
            self._unsound.add((known.type, known.shard))
        self._judge(t, fault)

    # -- one type --------------------------------------------------------------------------------------

    def _type(self, t: TypeKeys) -> None:
        if (t.type, t.shard) in self._unsound:
            return  # every script would fail on the key of the wrong kind
        try:
            self._counters(t)
            self._groups(t)
            late = sum(self._follow(t, walk) for walk in self._walks(t))
            self._waiting(t, late)
            self._desk(t)
            self._books(t)
        except ServerError as error:
            self._judge(t, Fault("unchecked", str(error)))

    def _walks(self, t: TypeKeys) -> Iterator[Iterator[Found]]:
        # In this order: see above. A moved task whose entry was deleted has its name in the index only.
        yield walks.streams(self._ask, t)
        yield walks.schedule(self._ask, t)
        yield walks.rows(self._ask, t, "index")
        yield walks.pending(self._ask, t)
        yield walks.rows(self._ask, t, "dead")
        yield self._letters(t)
        yield walks.rows(self._ask, t, "cancels")

    def _letters(self, t: TypeKeys) -> Iterator[Found]:
        """What is listed has a letter by now, so as many letters as are listed are all listed."""
        sizes = self._ask(calls.sizes(t))
        missing = self._listed["missing_letter", t.type, t.shard]
        if sizes.letters != sizes.dead or missing:
            yield from walks.letters(self._ask, t)

    def _follow(self, t: TypeKeys, walk: Iterator[Found]) -> int:
        late = 0
        for step in walk:
            self._audit.checked += step.checked
            self._progress(self._audit.checked)
            late += step.late
            for fault in step.faults:
                self._judge(t, fault)
        return late

    def _counters(self, t: TypeKeys) -> None:
        """First of all, since other repairs count what they do."""
        unsound = self._ask(calls.unsound_counters(t))
        if unsound and not self._recounted(t):
            for name, held in unsound:
                self._note(t, Fault("unreadable_counter", f"{name} holds {held}"))

    def _recounted(self, t: TypeKeys) -> bool:
        """Whether counters that are none count again by now. A dry run says what would become of them."""
        if self._mode == "look":
            return False
        for name, held, now in self._ask(calls.repair_counters(t, write=self._mode == "repair")):
            if name == t.counters:
                fault, how = Fault("wrong_kind_counters", f"{name} holds a {held}, not a hash"), ""
            else:
                fault, how = Fault("unreadable_counter", f"{name} holds {held}"), _recounted(now)
            self._note_repair(t, fault, how)
        return self._mode == "repair"

    def _groups(self, t: TypeKeys) -> None:
        """Groups are made by workers and daemons: an entry that waits for one for long waits for both."""
        surveyed = self._ask(calls.survey([t]))
        missing = [found.stream for found in surveyed if found.length > 0 and found.pending < 0]
        oldest = self._ask(calls.counts(t)) if missing else None
        if oldest is None or oldest.oldest_ready_ms is None:
            return
        if oldest.now_ms - oldest.oldest_ready_ms > LATE_MS:
            for stream in missing:
                self._judge(t, Fault("missing_group", stream))

    def _waiting(self, t: TypeKeys, late: int) -> None:
        """What waits for a daemon for long."""
        if late:
            where = f"{late} of {', '.join(self._silent(t)) or 'nobody'}"
            self._judge(t, Fault("unreclaimed", where))
        counts = self._ask(calls.counts(t))
        if _overdue(counts):
            time.sleep(SECOND_LOOK)
            again = self._ask(calls.counts(t))
            if _overdue(again) and again.next_due_ms == counts.next_due_ms:
                seconds = (again.now_ms - (again.next_due_ms or 0)) // 1000
                self._judge(t, Fault("unpromoted", f"for {seconds} s"))
        if old := self._ask(calls.overdue_expiries(t, counts.now_ms - 5 * LATE_MS)):
            self._judge(t, Fault("unended_expired", f"{old} rows"))
        if old := self._ask(calls.overdue_waiters(t, counts.now_ms - WAITERS_LATE_MS)):
            self._judge(t, Fault("stale_waiters", f"{old} rows"))

    def _silent(self, t: TypeKeys) -> list[str]:
        """The consumers that hold something and have long done nothing."""
        names: list[str] = []
        for letter, _ in calls.all_streams(t):
            names += [n for n, held, idle in self._ask(calls.consumers(t, letter)) if held and idle > LATE_MS]
        return sorted(set(names))[:10]

    def _desk(self, t: TypeKeys) -> None:
        # Fewer are no fault: letters that an earlier release wrote are in no group.
        sizes = self._ask(calls.sizes(t))
        if sizes.groups > sizes.dead:
            where = f"{sizes.groups} in groups, {sizes.dead} dead"
            self._judge(t, Fault("groups_differ", where))

    def _books(self, t: TypeKeys) -> None:
        counts = self._ask(calls.counts(t))
        if not counts.imbalance:
            return
        fault = Fault("counters_off", f"{counts.imbalance:+d} tasks")
        written = (
            self._mode == "repair" and self._write_off and self._ask(calls.repair_books(t, counts.imbalance))
        )
        if written or (self._mode == "dry" and self._write_off):
            self._note_repair(t, fault)
        if not written:
            self._note(t, fault)

    # -- what becomes of a fault -------------------------------------------------------------------------

    def _judge(self, t: TypeKeys, fault: Fault) -> None:
        """Repair it if that is asked for and can be done; else list it."""
        repair = REPAIRS.get(fault.code)
        if repair is None or self._mode == "look":
            self._note(t, fault)
        elif self._mode == "dry":
            self._note_repair(t, fault)
            self._note(t, fault)
        else:
            answer = repair(self._ask, shard_keys(self._app, t.shard), t, fault)
            if answer == "done":
                self._note_repair(t, fault)
            elif answer == "held":
                self._note(t, fault)

    def _note(self, t: TypeKeys, fault: Fault) -> None:
        if self._room(t, fault):
            self._audit.problems.append(_problem(t, fault))

    def _note_repair(self, t: TypeKeys, fault: Fault, how: str = "") -> None:
        if self._room(t, fault):
            how = how or FAULTS[fault.code].repair
            self._audit.repaired.append(Repaired(_problem(t, fault), how))

    def _room(self, t: TypeKeys, fault: Fault) -> bool:
        place = (fault.code, t.type, t.shard)
        self._listed[place] += 1
        self._audit.omitted += self._listed[place] > LISTED
        return self._listed[place] <= LISTED


_USED: Final = HOLDING | {"counters"}
"""The kinds of keys that show that a task type was in use."""


def _recounted(now: str) -> str:
    return (
        f"goes on from {now}, by the rest of the books" if now else "starts from 0: its count is written off"
    )


def _overdue(counts: Counts) -> bool:
    return counts.next_due_ms is not None and counts.now_ms - counts.next_due_ms > OVERDUE_MS


def _problem(t: TypeKeys, fault: Fault) -> Problem:
    kind = FAULTS[fault.code]
    where = fault.where.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Problem(kind.invariant, t.type, t.shard, fault.code, kind.says, where, kind.advice)
