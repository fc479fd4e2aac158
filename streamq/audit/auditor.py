"""Audits one app: the walks, their order, and the decision about each fault.

Owns the order, which matters for repairs: once the streams and the schedule have been walked, the index is
correct for all live tasks, so that a row that names an empty place is then a leftover. Does no I/O: an audit
is a flow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from streamq.audit import blobs, flows, keyspace, lane_walks, schedules, walks
from streamq.audit.fault import FAULTS, Audit, Problem, Repaired
from streamq.audit.repairs import REPAIRS
from streamq.audit.walks import LATE_MS, Found
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import question as question_calls
from streamq.calls.audit import Fault, FaultCode
from streamq.calls.call import all_streams
from streamq.errors import ServerError
from streamq.flow import Flow, Pause, ask, in_turn
from streamq.keys import HOLDING, OF_FLOWS, KnownKey, TypeKeys, shard_keys, type_keys
from streamq.model.counts import Counts
from streamq.model.task import TYPE_PATTERN

LISTED: Final = 1000
"""Problems of one kind in one task type that are listed individually; the others are counted."""
OVERDUE_MS: Final = 10_000
SECOND_LOOK: Final = 1.0
"""Seconds before a second look at work that a daemon may be about to do."""
WAITERS_LATE_MS: Final = 600_000

Mode = Literal["look", "dry", "repair"]


class Auditor:
    """Audits an app; see Audit. progress: called with the number of checked entries."""

    def __init__(
        self,
        app: str,
        shards: int,
        *,
        mode: Mode = "look",
        write_off: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._app, self._shards = app, shards
        self._mode, self._write_off = mode, write_off
        self._progress = progress
        self._audit = Audit()
        self._listed: Counter[tuple[FaultCode, str, int]] = Counter()
        self._unsound: set[tuple[str, int]] = set()
        self._recounted_lanes: set[tuple[str, int]] = set()

    def run(self) -> Flow[Audit]:
        """Check everything once. Raises RedisErrors."""
        types = yield from self._keys()
        for shard in range(self._shards):
            yield from self._schedules(shard)
            for name in sorted(types[shard]):
                yield from self._type(type_keys(self._app, shard, name))
        return self._audit

    # -- the keys themselves ---------------------------------------------------------------------------

    def _keys(self) -> Flow[list[set[str]]]:
        """Check the keys; return the task types of each shard."""
        listed = yield from in_turn(self._names(shard) for shard in range(self._shards))
        found: list[set[str]] = [set() for _ in listed]

        def look(step: keyspace.Keys) -> Flow[None]:
            for known, _ in step.known:
                if known.shard < self._shards and known.type and known.kind in _USED:
                    found[known.shard].add(known.type)
            for known, fault in step.faults:
                yield from self._judge_key(known, fault)

        yield from keyspace.walk(self._app, self._shards, look)
        for shard, names in enumerate(found):
            for name in sorted(names - listed[shard]):
                yield from self._judge(type_keys(self._app, shard, name), Fault("unlisted_type", name))
        return [names | listed[shard] for shard, names in enumerate(found)]

    def _names(self, shard: int) -> Flow[set[str]]:
        try:
            names = yield from ask(question_calls.types(shard_keys(self._app, shard)))
        except ServerError:  # of the wrong type: the walk over the keys reports it
            return set()
        return {name for name in names if TYPE_PATTERN.fullmatch(name)}

    def _judge_key(self, known: KnownKey, fault: Fault) -> Flow[None]:
        t = type_keys(self._app, known.shard, known.type)
        if fault.code == "wrong_kind":
            if known.kind == "counters":
                fault = Fault("wrong_kind_counters", fault.where)
                if (yield from self._recounted(t)):
                    return
            if known.kind not in OF_FLOWS:  # which costs that flow only
                self._unsound.add((known.type, known.shard))
        yield from self._judge(t, fault)

    def _schedules(self, shard: int) -> Flow[None]:
        t = type_keys(self._app, shard, "")
        if ("", shard) in self._unsound:
            return  # the wrong type of one key of the shard is listed
        for faults in (schedules.faults, flows.faults, blobs.faults):
            checked, found = yield from faults(shard_keys(self._app, shard))
            self._audit.checked += checked
            for fault in found:
                yield from self._judge(t, fault)

    # -- one type --------------------------------------------------------------------------------------

    def _type(self, t: TypeKeys) -> Flow[None]:
        if (t.type, t.shard) in self._unsound:
            return  # every script would fail on the key of the wrong type
        try:
            yield from self._counters(t)
            yield from self._scores(t)
            yield from self._groups(t)
            late = yield from self._walks(t)
            yield from self._waiting(t, late)
            yield from self._desk(t)
            yield from self._books(t)
        except ServerError as error:
            yield from self._judge(t, Fault("unchecked", str(error)))

    def _walks(self, t: TypeKeys) -> Flow[int]:
        """Return how many deliveries are idle far beyond their lease."""
        late = 0

        def found(step: Found) -> Flow[None]:
            nonlocal late
            late += step.late
            self._audit.checked += step.checked
            self._progress(self._audit.checked)
            for fault in step.faults:
                yield from self._judge(t, fault)

        # In this order: see above. The name of a moved task whose entry was deleted is only in the index.
        for walk in _WALKS:
            yield from walk(t, found)
        if (yield from self._unlisted(t)):
            yield from walks.letters(t, found)
        yield from walks.rows("cancels", t, found)
        return late

    def _counters(self, t: TypeKeys) -> Flow[None]:
        """Check the counters, before all else, since other repairs count what they do."""
        unsound = yield from ask(audit_calls.unsound_counters(t))
        if unsound and not (yield from self._recounted(t)):
            for name, held in unsound:
                self._note(t, Fault("unreadable_counter", f"{name} holds {held}"))

    def _scores(self, t: TypeKeys) -> Flow[None]:
        """Check for rows that hide others, before the walks, which would not see these."""
        sizes = yield from ask(question_calls.sizes(t))
        if sizes.scored:
            yield from self._judge(t, Fault("changed_score", f"{sizes.scored} rows"))

    def _recounted(self, t: TypeKeys) -> Flow[bool]:
        """Repair damaged counters; return whether they count again. A dry run reports what would be done."""
        if self._mode == "look":
            return False
        counters = yield from ask(audit_calls.repair_counters(t, write=self._mode == "repair"))
        for name, held, now in counters:
            if name == t.counters:
                fault, how = Fault("wrong_kind_counters", f"{name} holds a {held}, not a hash"), ""
            else:
                fault, how = Fault("unreadable_counter", f"{name} holds {held}"), _recounted(now)
            self._note_repair(t, fault, how)
        return self._mode == "repair"

    def _unlisted(self, t: TypeKeys) -> Flow[bool]:
        """Return whether a letter may be missing in the list. Each listed one has a letter by now, so equal
        numbers mean that all letters are listed."""
        sizes = yield from ask(question_calls.sizes(t))
        missing = self._listed["missing_letter", t.type, t.shard]
        return sizes.letters != sizes.dead or bool(missing)

    def _groups(self, t: TypeKeys) -> Flow[None]:
        """Check for missing consumer groups. Workers and daemons create them: an entry that has waited long
        for one shows that both are missing."""
        surveyed = yield from ask(daemon_calls.survey([t]))
        missing = [found.stream for found in surveyed if found.length > 0 and found.pending < 0]
        oldest = (yield from ask(question_calls.counts(t))) if missing else None
        if oldest is None or oldest.oldest_ready_ms is None:
            return
        if oldest.now_ms - oldest.oldest_ready_ms > LATE_MS:
            for stream in missing:
                yield from self._judge(t, Fault("missing_group", stream))

    def _waiting(self, t: TypeKeys, late: int) -> Flow[None]:
        """Check for work that has waited long for a daemon."""
        if late:
            where = f"{late} of {', '.join((yield from self._silent(t))) or 'no consumer'}"
            yield from self._judge(t, Fault("unreclaimed", where))
        counts = yield from ask(question_calls.counts(t))
        if _overdue(counts):
            yield Pause(SECOND_LOOK)
            again = yield from ask(question_calls.counts(t))
            if _overdue(again) and again.next_due_ms == counts.next_due_ms:
                seconds = (again.now_ms - (again.next_due_ms or 0)) // 1000
                yield from self._judge(t, Fault("unpromoted", f"for {seconds} s"))
        if old := (yield from ask(audit_calls.overdue_expiries(t, counts.now_ms - 5 * LATE_MS))):
            yield from self._judge(t, Fault("unended_expired", f"{old} rows"))
        if old := (yield from ask(audit_calls.overdue_waiters(t, counts.now_ms - WAITERS_LATE_MS))):
            yield from self._judge(t, Fault("stale_waiters", f"{old} rows"))

    def _silent(self, t: TypeKeys) -> Flow[list[str]]:
        """Return the consumers with deliveries that have been idle for long."""
        names: list[str] = []
        for letter, _ in all_streams(t):
            found = yield from ask(audit_calls.consumers(t, letter))
            names += [n for n, held, idle in found if held and idle > LATE_MS]
        return sorted(set(names))[:10]

    def _desk(self, t: TypeKeys) -> Flow[None]:
        # A smaller number is not a fault: letters of earlier releases are in no group.
        sizes = yield from ask(question_calls.sizes(t))
        if sizes.groups > sizes.dead:
            where = f"{sizes.groups} in groups, {sizes.dead} dead"
            yield from self._judge(t, Fault("groups_differ", where))

    def _books(self, t: TypeKeys) -> Flow[None]:
        counts = yield from ask(question_calls.counts(t))
        if not counts.imbalance:
            return
        fault = Fault("counters_off", f"{counts.imbalance:+d} tasks")
        written = 0
        if self._mode == "repair" and self._write_off:
            written = yield from ask(audit_calls.repair_books(t, counts.imbalance))
        if written or (self._mode == "dry" and self._write_off):
            self._note_repair(t, fault)
        if not written:
            self._note(t, fault)

    # -- deciding about a fault --------------------------------------------------------------------------

    def _judge(self, t: TypeKeys, fault: Fault) -> Flow[None]:
        """Repair a fault if that is asked for and possible; otherwise list it."""
        repair = REPAIRS.get(fault.code)
        if repair is None or self._mode == "look":
            self._note(t, fault)
        elif self._mode == "dry":
            self._note_repair(t, fault)
            self._note(t, fault)
        else:
            answer = yield from repair(shard_keys(self._app, t.shard), t, fault)
            counted = fault.code == "slots_differ" and (t.type, t.shard) in self._recounted_lanes
            if answer == "done" or counted:  # the first repair counts all lanes of the type
                if fault.code == "slots_differ":
                    self._recounted_lanes.add((t.type, t.shard))
                self._note_repair(t, fault)
            elif answer == "held":
                self._note(t, fault)

    def _note(self, t: TypeKeys, fault: Fault) -> None:
        if self._listable(t, fault):
            self._audit.problems.append(_problem(t, fault))

    def _note_repair(self, t: TypeKeys, fault: Fault, how: str = "") -> None:
        if self._listable(t, fault):
            how = how or FAULTS[fault.code].repair
            self._audit.repaired.append(Repaired(_problem(t, fault), how))

    def _listable(self, t: TypeKeys, fault: Fault) -> bool:
        kind = (fault.code, t.type, t.shard)
        self._listed[kind] += 1
        self._audit.omitted += self._listed[kind] > LISTED
        return self._listed[kind] <= LISTED


_WALKS: Final = (
    walks.streams,
    walks.schedule,
    lane_walks.rows,
    partial(walks.rows, "index"),
    walks.pending,
    partial(walks.rows, "dead"),
    partial(walks.rows, "unique"),
    partial(walks.rows, "after"),
    walks.memos,
    walks.children,
    lane_walks.slots,
    lane_walks.turns,
)
_USED: Final = HOLDING | {"counters"}
"""The kinds of keys that prove that a task type was in use."""


def _recounted(now: str) -> str:
    return (
        f"continues from {now}, computed from the other counters"
        if now
        else "starts from 0: its count is written off"
    )


def _overdue(counts: Counts) -> bool:
    return counts.next_due_ms is not None and counts.now_ms - counts.next_due_ms > OVERDUE_MS


def _problem(t: TypeKeys, fault: Fault) -> Problem:
    kind = FAULTS[fault.code]
    where = fault.where.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Problem(kind.invariant, t.type, t.shard, fault.code, kind.text, where, kind.advice)
