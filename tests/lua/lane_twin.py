"""The lanes of one task type in plain Python: what Redis must hold after each call, but for names of entries.

A task is a number here, which stands in its payload. Written from the rules of the gate with lists and
dicts; nothing of it is shared with the scripts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

NO_LANE = "\x01"
DIGITS = {"h": 1, "n": 2, "l": 3}


@dataclass
class Rules:
    """Of a type, and what one of its lanes has unless an operator says otherwise. Empty: no limit."""

    running: float | None = None
    interval: float | None = None
    burst: float = 1
    fair: bool = False
    order: bool = False
    halt: bool = False
    lane_running: float | None = None
    lane_interval: float | None = None
    lane_burst: float = 1
    lane_weight: float = 1
    window: float = 64

    def gate(self) -> str:
        def text(value: object) -> str:
            return "" if value in (None, False) else "1" if value is True else f"{value:.17g}"

        parts = (
            self.running, self.interval, self.burst, self.fair, self.order, self.halt,
            self.lane_running, self.lane_interval, self.lane_burst, self.lane_weight,
        )  # fmt: skip
        return ";".join(map(text, parts))


@dataclass
class Task:
    n: int
    lane: str
    letter: str
    cost: int
    number: int = 0
    state: str = "new"
    stream: str = ""
    slot: bool = False
    fenced: bool = False
    lost: int = 0


@dataclass
class Record:
    held: int = 0
    tat: float = 0
    f: float = 0
    till: float = 0
    halt: int = 0


@dataclass(order=True)
class Row:
    rank: int
    task: Task = field(compare=False)
    due: int = field(compare=False, default=0)


class Twin:
    def __init__(self, rules: Rules, now_us: int) -> None:
        self.rules, self.now = rules, now_us
        self.limits: dict[str, tuple[float | None, float | None, float, float]] = {}
        self.sequence = 0
        self.tat = self.v = self.n = 0.0
        self.records: dict[str, Record] = {}
        self.rows: dict[str, list[Row]] = {}
        self.turns: dict[str, float] = {}
        self.ripe: dict[str, int] = {}
        self.streams: dict[str, list[Task]] = {letter: [] for letter in "hnls"}
        self.schedule: list[tuple[int, int, Task]] = []
        self.begin()

    # -- a call ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.entries: int | None = None
        self.started = self.made = False
        self.touched: list[str] = []
        self.leaving: list[Task] = []
        self._bound_whole()

    def close(self) -> None:
        for task in self.leaving:
            for entries in self.streams.values():
                if task in entries:
                    entries.remove(task)
        self.entries = None
        if not self.made:
            return  # nothing of the call concerned a lane
        for lane in self.touched:
            self.look(lane)
        self.timers()
        while self.turns and self.room() > 0:
            lane = min(self.turns, key=lambda name: (self.turns[name], name.encode()))
            r, row = self.record(lane), self.head(lane)
            if row is None or not self.free(lane) or self.ready(lane, row) > self.now:
                self.look(lane)
                continue
            token = self._token(row.task.cost)
            if token > self.now:
                self.ripe[""] = math.ceil(token / 1000)
                break
            score = self.turns[lane]
            self.rows[lane].remove(row)
            self.enter(row.task, row.task.letter)
            self.charge(r, row.task, score)
            self.look(lane, new=True)
        if (self.v > 0 or self.n > 0) and not any(self.rows.values()) and self.used() == 0:
            self.v = self.n = 0.0

    def touch(self, lane: str) -> None:
        self.made = True
        if lane not in self.touched:
            self.touched.append(lane)

    def timers(self) -> None:
        self.made = True
        if self.started:
            return
        self.started = True
        due = sorted((at, lane.encode(), lane) for lane, at in self.ripe.items() if at <= self.now // 1000)
        for _, _, lane in due:
            if lane == "":
                self.ripe.pop(lane, None)
            else:
                self.look(lane)

    # -- rules -----------------------------------------------------------------------------------------

    def of(self, lane: str) -> tuple[float, float | None, float, float]:
        rules = self.rules
        if lane == "":
            running, interval, burst, weight = rules.running, rules.interval, rules.burst, 1.0
        elif lane == NO_LANE:
            running, interval, burst, weight = None, None, 1, 1.0
        else:
            running, interval = rules.lane_running, rules.lane_interval
            burst, weight = rules.lane_burst, rules.lane_weight
        if lane in self.limits:
            running, interval, burst, weight = self.limits[lane]
        most = math.inf if running is None else running
        if rules.order and lane not in ("", NO_LANE):
            most = min(most, 1)
        return most, interval, burst, weight

    def _bound_whole(self) -> None:
        _, interval, burst, _ = self.of("")
        self.tat = min(self.tat, self.now + burst * interval) if interval else 0

    def record(self, lane: str) -> Record:
        self.made = True
        r = self.records.setdefault(lane, Record())
        _, interval, burst, _ = self.of(lane)
        r.tat = min(r.tat, self.now + burst * interval) if interval else 0
        return r

    def head(self, lane: str) -> Row | None:
        return min(self.rows.get(lane) or [], default=None)

    def free(self, lane: str) -> bool:
        r = self.record(lane)
        return not r.halt and r.held < self.of(lane)[0]

    def ready(self, lane: str, row: Row) -> float:
        r = self.record(lane)
        _, interval, burst, _ = self.of(lane)
        ready = max(row.due * 1000, r.till)
        return max(ready, r.tat + (min(row.task.cost, burst) - burst) * interval) if interval else ready

    def _token(self, cost: int) -> float:
        _, interval, burst, _ = self.of("")
        return max(0, self.tat + (min(cost, burst) - burst) * interval) if interval else 0

    def used(self) -> int:
        if self.entries is None:
            self.entries = sum(map(len, self.streams.values()))
        return self.entries

    def room(self) -> float:
        most = min(self.of("")[0], self.rules.window if self.rules.fair else math.inf)
        return most if most == math.inf else most - self.used()

    # -- R1, R2 ----------------------------------------------------------------------------------------

    def look(self, lane: str, *, new: bool = False) -> None:
        r, row = self.record(lane), self.head(lane)
        score = None if new else self.turns.get(lane)
        timer: float | None = None
        able = False
        if row is not None:
            free, ready = self.free(lane), self.ready(lane, row)
            able = free and ready <= self.now
            timer = ready if free and not able else None
        elif r.held == 0:
            r.f = 0
            timer = max(r.tat, r.till)
            timer = timer if timer > self.now else None
        if able:
            assert row is not None
            self.turns[lane] = self.score(lane, row) if score is None or not self.rules.fair else score
        else:
            self.turns.pop(lane, None)
            if row is not None and score is not None and self.rules.fair and score > self.v:
                r.f = score
        if timer is None:
            self.ripe.pop(lane, None)
        else:
            self.ripe[lane] = math.ceil(timer / 1000)

    def score(self, lane: str, row: Row) -> float:
        if not self.rules.fair:
            return row.rank
        r = self.record(lane)
        if r.f > self.v:
            return r.f
        self.n = max(self.v, min(self.n + 1 / self.rules.window, self.v + 1))
        return self.n

    # -- R3 to R5 --------------------------------------------------------------------------------------

    def draw(self) -> int:
        self.sequence += 1
        return self.sequence

    def enter(self, task: Task, letter: str) -> None:
        if self.rules.order:
            task.fenced = True
            self.draw()
        task.state, task.stream, task.slot = "ready", letter, True
        self.streams[letter].append(task)

    def charge(self, r: Record, task: Task, score: float) -> None:
        r.held += 1
        if self.entries is not None:
            self.entries += 1
        _, interval, burst, weight = self.of(task.lane)
        if interval:
            r.tat = min(max(r.tat, self.now) + min(task.cost, burst) * interval, self.now + burst * interval)
        _, interval, burst, _ = self.of("")
        if interval:
            self.tat = min(
                max(self.tat, self.now) + min(task.cost, burst) * interval, self.now + burst * interval
            )
        if self.rules.fair:
            self.v = max(self.v, score)
            r.f = score + task.cost / weight

    def arrive(self, task: Task, due: int | None = None) -> None:
        self.timers()
        lane, r = task.lane, self.record(task.lane)
        task.number = task.number or self.draw()
        if (
            not self.turns and not self.rows.get(lane) and not (due and due > self.now // 1000)
            and self.free(lane) and self.ready(lane, Row(0, task)) <= self.now
            and self._token(task.cost) <= self.now and self.room() > 0
        ):  # fmt: skip
            self.charge(r, task, max(r.f, self.v))
            # Its place in the stream comes before its books are asked for again.
            self.enter(task, task.letter)
            return
        self.park(task, DIGITS[task.letter], due)

    def park(self, task: Task, digit: int, due: int | None = None) -> None:
        before = self.head(task.lane)
        task.state, task.slot = "parked", False
        rank = digit * 10**15 + task.number
        waits = due if due and due > self.now // 1000 else 0
        self.rows.setdefault(task.lane, []).append(Row(rank, task, waits))
        if before is None or rank < before.rank:
            self.look(task.lane)

    def release(self, task: Task, how: str = "") -> None:
        if not task.slot:
            return
        task.slot = False
        r = self.record(task.lane)
        before = r.held
        r.held -= 1
        ordered = self.rules.order and task.lane != NO_LANE
        if how == "d" and ordered and self.rules.halt and not r.halt:
            r.halt = task.n
        if r.held == 0 or before >= self.of(task.lane)[0]:
            self.touch(task.lane)

    # -- what is asked ---------------------------------------------------------------------------------

    def enqueue(self, tasks: Iterable[tuple[Task, int | None]]) -> None:
        self.begin()
        for task, due in tasks:
            if due is not None and due > self.now // 1000:
                task.state = "scheduled"
                self.schedule.append((due, self.draw(), task))
            else:
                self.arrive(task)
        self.close()

    def end(self, task: Task, how: str) -> None:
        """Within a settlement or a reclaim: the entry goes at its end."""
        self.leaving.append(task)
        task.state = {"d": "dead"}.get(how, "ended")
        self.release(task, how)

    def retry(self, task: Task, delay: int) -> None:
        self.leaving.append(task)
        task.lost = 0
        ordered = self.rules.order and task.lane != NO_LANE
        self.release(task)
        if delay and not ordered:
            task.state = "scheduled"
            self.schedule.append((self.now // 1000 + delay, self.draw(), task))
            return
        self._again(task, self.now // 1000 + delay if delay else None)

    def hold(self, task: Task, ms: int) -> None:
        self.leaving.append(task)
        self.release(task)
        r = self.record(task.lane)
        r.till = max(r.till, (self.now // 1000 + ms) * 1000)
        self._again(task, None)

    def _again(self, task: Task, due: int | None) -> None:
        self.touch(task.lane)
        copy = Task(task.n, task.lane, task.letter, task.cost, task.number, lost=task.lost)
        self.replaced(task, copy)
        self.arrive(copy, due)

    def replaced(self, task: Task, copy: Task) -> None:
        """The task is a new entry, or a row, while the old entry is there to the end of the call."""

    def back(self, task: Task) -> None:
        """Handed back: the slot moves with the entry."""
        self.leaving.append(task)
        if task.fenced:
            self.draw()
        copy = Task(task.n, task.lane, task.letter, task.cost, task.number, "ready", "s", task.slot,
                    task.fenced, task.lost)  # fmt: skip
        self.replaced(task, copy)
        self.streams["s"].append(copy)

    def lose(self, task: Task, most: int) -> None:
        """Reclaimed."""
        task.lost += 1
        if task.lost >= 3 * most:
            return self.end(task, "d")
        self.leaving.append(task)
        if task.fenced:
            self.draw()
        letter = "s" if task.lost >= most - 1 else task.stream
        copy = Task(task.n, task.lane, task.letter, task.cost, task.number, "ready", letter, task.slot,
                    task.fenced, task.lost)  # fmt: skip
        self.replaced(task, copy)
        self.streams[letter].append(copy)
        return None

    def promote(self) -> None:
        self.begin()
        self.made = True
        due = sorted(row for row in self.schedule if row[0] <= self.now // 1000)
        for row in due:
            self.schedule.remove(row)
            self.arrive(row[2])
        self.close()

    def cancel(self, task: Task) -> None:
        self.begin()
        if task.state == "parked":
            self.rows[task.lane] = [row for row in self.rows[task.lane] if row.task is not task]
            self.touch(task.lane)
        elif task.state == "scheduled":
            self.schedule = [row for row in self.schedule if row[2] is not task]
        else:
            self.streams[task.stream].remove(task)
            self.release(task, "x")
        task.state = "ended"
        self.close()

    def requeue(self, task: Task) -> None:
        self.begin()
        task.lost = 0
        self.opened(task)
        self.arrive(task)
        self.close()

    def purge(self, task: Task) -> None:
        self.begin()
        self.opened(task)
        task.state = "ended"
        self.close()

    def opened(self, task: Task) -> None:
        r = self.record(task.lane)
        if r.halt == task.n:
            r.halt = 0
            self.touch(task.lane)

    def limit(self, lane: str, rules: tuple[float | None, float | None, float, float] | None) -> None:
        if rules is None:
            self.limits.pop(lane, None)
        else:
            self.limits[lane] = rules
        self.begin()
        self.made = True
        if lane:
            self.touch(lane)
        self.close()

    def change(self, rules: Rules) -> None:
        """The policy; the sweep comes with the next call of `promote`."""
        if rules.fair != self.rules.fair:
            self.turns = {}
        self.rules = rules

    def sweep(self) -> None:
        """Every lane that has rows, within one call."""
        for lane in sorted((lane for lane, rows in self.rows.items() if rows), key=str.encode):
            self.touch(lane)

    def run_now(self, task: Task, *, force: bool) -> None:
        self.begin()
        if task.state == "scheduled":
            self.schedule = [row for row in self.schedule if row[2] is not task]
            self.arrive(task)
            if not force or task.state != "parked":
                return self.close()
        self.rows[task.lane] = [row for row in self.rows[task.lane] if row.task is not task]
        self.touch(task.lane)
        r = self.record(task.lane)
        if force:
            self.enter(task, task.letter)
            self.charge(r, task, max(r.f, self.v))
        else:
            self.park(task, 0)
        return self.close()
