"""The twin of the server: what each script must answer, and the same change made here.

Pure, as the books that it keeps. What somebody does by hand behind the scripts' back is known too: an
entry that is deleted takes its task with it (`destroyed`), and the books must be wrong by exactly those.
"""

from __future__ import annotations

from collections import Counter

from streamq.calls.call import SILENT_MS
from streamq.calls.daemon import HELD_AGAIN_MS
from streamq.model.outcome import (
    Cancelled,
    Completed,
    Died,
    Expired,
    HandedBack,
    Outcome,
    Retried,
    Settlement,
)
from streamq.model.task import LIVING, NewTask
from tests.model.books import LEASE, LETTERS, Pending, Task, listed, order
from tests.model.locks import FOLLOWS, Ask, Locks


class Twin(Locks):
    """One task type, transition by transition."""

    # -- producers -------------------------------------------------------------------------------------

    def room(self) -> float:
        if self.policy.backlog is None:
            return float("inf")
        return self.policy.backlog - len(self.due()) - sum(map(len, self.streams.values()))

    def refusal(self, room: float) -> str | int | None:
        """`full`, or the ms to wait, or None where the next task is to be accepted."""
        if room <= 0:
            return "full"
        if self.policy.rate:
            count, period = self.policy.rate
            oldest = self.rate_log[count - 1] if len(self.rate_log) >= count else None
            if oldest is not None and oldest <= self.now < oldest + period:
                return oldest + period - self.now
        return None

    def accept(self, new: NewTask, local: str, ask: Ask | None = None, *, follows: bool = False) -> None:
        """One more; the id is the server's where the task is ready, ours to foretell where it is not. With a
        unique key it has the lock, or `follows` who has it; a throttled one that follows is due when the
        server says."""
        assert local not in self.tasks, "an id was given twice"
        self.counters["accepted"] += 1
        if self.policy.rate:
            self.rate_log = [self.now, *self.rate_log][: self.policy.rate[0]]
        due = None if new.due is None else new.due + (0 if new.absolute else self.now)
        if ask is not None and ask.trailing_ms:
            self.throttled[ask.key] = local
            due = order(local)[0] if follows else None
            ask = None
        task = Task(local, new.payload, new.priority[0], "ready")
        if lifetime := dict(new.fields).get("x"):
            task.expires = max(due or self.now, self.now) + int(lifetime)
            self.expiring[local] = task.expires
        self.tasks[local] = task
        if ask is not None and follows:
            due = FOLLOWS
            self.follow(task, ask)
        elif ask is not None:
            self.lock(task, ask)
        if due is None or due <= self.now:
            assert local[0] == task.priority
            self.placed(task, local)
            return
        task.enqueued = self.now
        self._park(task, due)
        assert local == task.place

    # -- schedules -------------------------------------------------------------------------------------

    def tick(self, revision: int, run: int, following: int | None, overlap: str) -> str:
        """What becomes of a run: made, waiting, lost, or why it is skipped. Without `following` it is the one
        that waits for the end of the one before."""
        found, waits = self.recurring, following is None
        if revision != found.revision:
            return "lost"
        found.revision += 1
        if following is not None:
            found.last, found.next = run, following
        last = self.tasks.get(found.run)
        lives = last is not None and self.located(last) in LIVING
        ends = lives and overlap in ("replace", "end_first")
        if lives and overlap in ("queue_one", "end_first") and (waits or found.waiting is None):
            found.waiting = run
            if ends:
                self.cancels.add(found.run)
            return "waiting"
        if waits:
            found.waiting = None
        beside = overlap in ("allow", "replace")
        refusal = self.refusal(self.room())
        if ends and (refusal is None or not beside):
            self.cancels.add(found.run)
        if refusal is None and (not lives or beside):
            return "made"
        why = "overlap" if lives and not beside else "backlog" if refusal == "full" else "rate_limit"
        found.skipped[why] += 1
        return why

    # -- workers ---------------------------------------------------------------------------------------

    def fetch(self, consumer: str, budget: int, letters: str, *, alone: bool) -> list[str] | None:
        """The places that must come, in their order; None where the group is missing and nothing came. Of
        suspects one is taken, none where one is in hand (`alone`)."""
        found: list[str] = []
        for letter in letters:
            room = budget - len(found)
            if room > 0 and letter not in self.groups and (letter != "s" or self.streams["s"]):
                return found or None
            next_ones = [place for place in self.entries(letter) if order(place) > self.last[letter]]
            for place in next_ones[:room]:
                if letter == "s" and self.tasks[self.streams[letter][place]].lost:
                    if alone:
                        break
                    alone = True
                found.append(place)
                self.last[letter] = order(place)
                task = self.tasks[self.streams[letter][place]]
                task.state = "running"
                self.pending[place] = Pending(consumer, self.now, task.local)
        return found

    def renew(self, consumer: str, mine: list[tuple[str, str]]) -> set[str]:
        """The places that are lost. Of a deleted entry the worker's name for the task remains."""
        lost: set[str] = set()
        for place, local in mine:
            held = self.pending.get(place)
            if held is None or held.consumer != consumer:
                lost.add(place)
            elif held.deleted:
                lost.add(place)
                self._vanished(self.tasks[self.pending.pop(place).local], place, local, 1)
            else:
                held.since = self.now
        return lost

    def settle(self, settlements: list[Settlement]) -> list[bool]:
        """Answers for each whether it was ours."""
        items = [(one.place, one.local, one.outcome) for one in settlements]
        plain = [
            n
            for n, one in enumerate(settlements)
            if isinstance(one.outcome, Completed) and one.place == one.local and not one.rich
        ]
        answers = [False] * len(items)
        for letter in LETTERS:
            numbers = [n for n in plain if items[n][0][0] == letter]
            self._settle_plain(letter, numbers, items, answers)
        for n, (place, local, outcome) in enumerate(items):
            if n not in plain and place in self.pending:
                answers[n] = True
                self._settle_one(place, local, outcome)
        return answers

    def _settle_plain(
        self, letter: str, numbers: list[int], items: list[tuple[str, str, Outcome]], answers: list[bool]
    ) -> None:
        places = {n: items[n][0] for n in numbers}
        acknowledged = {n for n in numbers if places[n] in self.pending}
        ours = acknowledged
        if len(acknowledged) < len(numbers):
            # Also what is in limbo is ours; not what was deleted by hand, though its end is counted.
            ours = {
                n
                for n in numbers
                if letter in self.groups
                and places[n] in self.streams[letter]
                and order(places[n]) <= self.last[letter]
            }
        spare = max(0, len(acknowledged) - len(ours))
        for n in numbers:
            place, outcome = places[n], items[n][2]
            held = self.pending.pop(place, None)
            if n in ours:
                answers[n] = True
                self._completed(self.tasks[items[n][1]], place, outcome)
            elif held is not None and spare:
                spare -= 1
                task = self.tasks[held.local]
                self.counters["started"] += 1
                self.counters["completed"] += 1
                task.state, task.place = "completed", ""
            elif held is not None:
                self.tasks[held.local].state = "destroyed"

    def _completed(self, task: Task, place: str, outcome: Outcome) -> None:
        assert isinstance(outcome, Completed)
        self.counters["started"] += 1
        self.streams[place[0]].pop(place, None)
        self._ended(task, "completed")
        task.result = outcome.result if outcome.retention_ms else None

    def _settle_one(self, place: str, local: str, outcome: Outcome) -> None:
        held = self.pending.pop(place)
        self.streams[place[0]].pop(place, None)
        task = self.tasks[held.local]
        if getattr(outcome, "started", not isinstance(outcome, Expired)):
            self.counters["started"] += 1
        match outcome:
            case Completed(result, retention_ms):
                self._ended(task, "completed")
                task.result = result if retention_ms else None
            case Cancelled():
                self._ended(task, "cancelled")
            case Expired():
                self._ended(task, "expired")
            case _ if held.deleted:
                known = listed(outcome.failures) if isinstance(outcome, Retried | Died) else 0
                self._vanished(task, place, local, known)
            case Died(_, failures):
                self._ended(task, "dead")
                task.failures = listed(failures)
            case Retried() | HandedBack() if task.local in self.cancels:
                self._ended(task, "cancelled")
            case Retried(delay_ms, failures):
                self._retried(task, delay_ms, failures)
            case HandedBack():
                self.counters["handed_back"] += 1
                self._append(task, "s")

    def _vanished(self, task: Task, place: str, local: str, failures: int) -> None:
        """The entry was deleted while it ran: what is left of the task is a dead letter."""
        if task.local not in (local, place):
            # A worker that never read it knows its place only: the letter gets that name.
            task.state = "replaced"
            task = self.tasks[place] = Task(place, b"", "n", "dead")
        self._bury_vanished(task, place[0], failures)

    def _retried(self, task: Task, delay_ms: int, failures: bytes) -> None:
        self.counters["retried"] += 1
        task.attempts, task.lost, task.failures = task.attempts + 1, 0, listed(failures)
        if not delay_ms:
            self._append(task, task.priority)
            return
        self._park(task, self.now + delay_ms)
        task.indexed = True

    # -- daemons ---------------------------------------------------------------------------------------

    def promote(self, limit: int) -> tuple[int, int | None]:
        """How many are moved, and when the next is due."""
        moved = [task for task in self.due() if order(task.place)[0] <= self.now][:limit]
        for task in moved:
            self._append(task, task.priority)
        left = [order(task.place)[0] for task in self.due()]
        return len(moved), left[0] if left and left[0] < FOLLOWS else None

    def expire(self, limit: int) -> tuple[int, int]:
        """How many rows are looked at, and how many of their tasks end."""
        rows = sorted((at, local) for local, at in self.expiring.items() if at <= self.now)[:limit]
        expired = 0
        for _, local in rows:
            task = self.tasks[local]
            if task.state == "running" and not self.pending[task.place].deleted:
                self.expiring[local] = self.now + HELD_AGAIN_MS
            elif task.state not in ("ready", "scheduled") or task.expires is None:
                del self.expiring[local]
            elif task.expires > self.now:
                self.expiring[local] = task.expires
            else:
                # One that followed another that has just expired is in a stream since this call.
                self.streams.get(task.place[:1], {}).pop(task.place, None)
                self.fresh = [(one, letter) for one, letter in self.fresh if one is not task]
                self._ended(task, "expired")
                expired += 1
        return len(rows), expired

    def skewed(self, expected: int) -> bool:
        return expected > 0 and abs(self.now - expected) > max(1000, LEASE / 4)

    def reclaim(self, letter: str, cursor: str, limit: int) -> tuple[str, int, int, int]:
        """The next cursor, and how many are returned, dead and cancelled. Ten times the limit are looked
        at; the ids of deleted entries are in the index, or are their places."""
        start = order(letter + cursor.removeprefix("("))
        walk = [place for place in self.held_in(letter) if order(place) > start]
        result: Counter[str] = Counter()
        looked = walk[: limit * 10]
        idle = [place for place in looked if self._abandoned(self.pending[place])]
        if len(idle) > limit:
            looked = looked[: looked.index(idle[limit])]
        for place in idle[:limit]:
            result[self._take_back(place)] += 1
        left = len(walk) > len(looked) or len(looked) == limit * 10
        return f"({looked[-1][1:]}" if left else "0-0", result["ready"], result["dead"], result["cancelled"]

    def _abandoned(self, held: Pending) -> bool:
        _, promised = self.beats.get(held.consumer, (0, 0))
        return self.now - held.since >= max(LEASE, promised)

    def beat(self, consumer: str, lease: int) -> None:
        """A sign of life; who has long been silent is forgotten."""
        self.beats[consumer] = (self.now, lease)
        self._forget_silent(SILENT_MS)

    def _forget_silent(self, silent_ms: int) -> int:
        silent = [name for name, (at, _) in self.beats.items() if at <= self.now - silent_ms]
        for name in silent:
            del self.beats[name]
        return len(silent)

    def _take_back(self, place: str) -> str:
        held = self.pending.pop(place)
        task = self.tasks[held.local]
        if held.deleted:
            self._bury_vanished(task, place[0], 1)
            return task.state
        del self.streams[place[0]][place]
        self.counters["reclaimed"] += 1
        self.counters["started"] += 1
        task.lost, task.failures = task.lost + 1, task.failures + 1
        if task.local in self.cancels:
            self._ended(task, "cancelled")
        elif task.lost >= self.policy.most_lost:
            self._ended(task, "dead")
        else:
            self._append(task, "s" if task.lost >= self.policy.max_lost - 1 else place[0])
        return task.state

    def restamp(self, letter: str) -> None:
        for place in self.held_in(letter):
            if not self.pending[place].deleted:
                self.pending[place].since = self.now

    def repair(self, letter: str, cursor: str, limit: int) -> tuple[str, int]:
        """The next cursor and how many entries were appended anew."""
        if letter not in self.groups:
            return "", 0
        start = (0, 0) if cursor == "-" else order(letter + cursor.removeprefix("("))
        walk = [p for p in self.entries(letter) if start < order(p) <= self.last[letter]][:limit]
        moved = [place for place in walk if place not in self.pending]
        for place in moved:
            self._append(self.tasks[self.streams[letter].pop(place)], letter)
        self.counters["repaired"] += len(moved)
        return ("" if len(walk) < limit else f"({walk[-1][1:]}"), len(moved)

    def trim(self, gone_ms: int, silent_ms: int) -> int:
        silent = self._forget_silent(silent_ms)
        old = [task for task in self.gone() if task.when <= self.now - gone_ms]
        for task in old:
            task.kept = False
        over = [local for local, until in self.waiters.items() if until <= self.now]
        for local in over:
            del self.waiters[local]
        return len(old) + len(over) + silent

    # -- operators -------------------------------------------------------------------------------------

    def cancel(self, local: str) -> str:
        task = self.tasks[local]
        if task.state == "running" and not self.pending[task.place].deleted:
            self.cancels.add(local)
            return "requested"
        if task.state in ("ready", "scheduled"):
            if task.state == "ready":
                del self.streams[task.place[0]][task.place]
            self._ended(task, "cancelled")
            return "cancelled"
        if task.state == "cancelled" and task.kept:
            return "cancelled"
        return "dead" if task.state == "dead" else "unknown"

    def requeue(self, ids: list[str]) -> tuple[int, list[tuple[str, str]]]:
        """What has no payload cannot run: it stays. So does what asks for a lock that another task holds."""
        dead = [self.tasks[local] for local in ids if self.tasks[local].state == "dead"]
        moved, held = 0, list[tuple[str, str]]()
        for task in (task for task in dead if task.readable):
            holder = self.holder(task.lock) if task.lock else None
            if holder is not None and holder is not task:
                held.append((task.local, holder.local))
                continue
            if task.lock:
                self.unique[task.lock] = task.local
            task.attempts = task.lost = 0
            task.expires = None
            self._append(task, task.priority)
            moved += 1
        self.counters["requeued"] += moved
        return moved, held

    def purge(self, ids: list[str]) -> int:
        purged = [self.tasks[local] for local in ids if self.tasks[local].state == "dead"]
        for task in purged:
            task.state = "purged"
        self.counters["purged"] += len(purged)
        return len(purged)

    # -- by hand, behind the scripts' back ---------------------------------------------------------------

    def destroy_group(self, letter: str) -> None:
        self.groups.discard(letter)
        self.last[letter] = (0, 0)
        for place in self.held_in(letter):
            self.forget(place)

    def forget(self, place: str) -> None:
        """A delivery is acknowledged by hand, or its consumer deleted: the entry is nobody's."""
        if self.pending[place].deleted:
            self._gone_for_good(place)
        else:
            self.tasks[self.pending.pop(place).local].state = "ready"

    def delete_entry(self, place: str) -> None:
        task = self.tasks[self.streams[place[0]].pop(place)]
        if place in self.pending:
            self.pending[place].deleted = True
        else:
            task.state = "destroyed"
