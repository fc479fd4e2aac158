"""The rules for lanes, unique keys and schedules: what is right passes, and each fault in it is found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.census import Tally
from tests.chaos.checker import check
from tests.chaos.history import Event
from tests.chaos.journal import Entry
from tests.chaos.promises import PROMISES


class Tale:
    """A history, its journals and its end, written by hand. Times are ms; nothing is but what is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lives: dict[str, list[Entry]] = defaultdict(list)
        self.schedules: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.counters: dict[str, dict[str, int]] = defaultdict(dict)

    def note(self, name: str, ms: int, **about: Any) -> Tale:
        self.events.append({"event": name, "at": ms * 1_000_000, "wall": ms, "pid": 1, **about})
        return self

    def call(self, key: str, task: str, ms: int, told: str = "accepted", **about: Any) -> Tale:
        """A call that was answered a ms later."""
        self.note("invoke", ms, key=key, type=task.partition(":")[0], conduct="ok", **about)
        return self.note(told, ms + 1, key=key, **({"id": task} if told in ("accepted", "joined") else {}))

    def run(
        self, key: str, task: str, start: int, end: int | None, gone: int | None = None, ready: int = 0,
        lost: int = 0, failed: int = 0, event: str = "effect", **about: Any,
    ) -> Tale:  # fmt: skip
        """An attempt, with its entry: that was ready 2 ms before, and is gone 2 ms after it."""
        ready = ready or start - 2
        token = f"{task}-{start}"
        told = {
            "id": task,
            "attempt": failed + 1,
            "token": token,
            "conduct": "ok",
            **({"key": key} if key else {}),
        }
        entry = Entry(f"{ready}-0", "normal", ready, lost, failed, [(start - 1, "w")])
        entry.gone = gone or (end + 2 if end else None)
        self.lives[task].append(entry)
        self.note(
            "start", start, lost=lost, place=entry.place, worker=f"w{start}", apart=False, **told, **about
        )
        if end is not None:
            self.note(event, end, **told)
        if event == "effect" and end is not None:
            self.ended[task] = token
        return self

    def found(self) -> set[str]:
        events = sorted(self.events, key=lambda event: int(event["at"]))
        return {finding.rule for finding in check(events, self._tally(), self.lives)}

    def _tally(self) -> Tally:
        final = Tally(schedules=self.schedules)
        for task, token in self.ended.items():
            final.ended.append((task, "completed"))
            final.tokens[task] = token
            mine = self.counters[task.partition(":")[0]]
            mine["completed"] = mine.get("completed", 0) + 1
            mine["accepted"] = mine.get("accepted", 0) + 1
        for task in self.cancelled:
            final.ended.append((task, "cancelled"))
            mine = self.counters[task.partition(":")[0]]
            mine["cancelled"] = mine.get("cancelled", 0) + 1
            mine["accepted"] = mine.get("accepted", 0) + 1
        final.counters = dict(self.counters)
        return final


def metered(n: int) -> str:
    return f"metered:0:n{n}-0"


def lanes() -> Tale:
    """Two of a lane at once, a third behind them; five of the type."""
    tale = Tale()
    for n, (lane, start, end) in enumerate(
        [("a", 1000, 1500), ("a", 1010, 1400), ("b", 1020, 1500), ("b", 1030, 1500), ("c", 1040, 1500),
         ("a", 1410, 1600)]
    ):  # fmt: skip
        tale.call(f"k{n}", metered(n), 900 + n, lane=lane).run(
            f"k{n}", metered(n), start, end, lane=lane, fence=0
        )
    return tale


def above_the_limit_of_a_lane(tale: Tale) -> None:
    tale.call("x", metered(9), 950, lane="a").run("x", metered(9), 1390, 1395, lane="a", fence=0)


def above_the_limit_of_the_type(tale: Tale) -> None:
    tale.call("x", metered(9), 950, lane="c").run("x", metered(9), 1399, 1450, ready=1050, lane="c", fence=0)


def ready_above_the_limit(tale: Tale) -> None:
    """It is in its stream while two of its lane are, and runs when they have ended."""
    tale.call("x", metered(9), 950, lane="a").run("x", metered(9), 1700, 1750, ready=1399, lane="a", fence=0)


def dead_and_not_yet_taken_back(tale: Tale) -> None:
    """A worker that was killed holds its slot until its entry is gone."""
    tale.call("x", metered(9), 950, lane="a").run("x", metered(9), 1605, None, gone=5000, lane="a", fence=0)
    tale.run("x", metered(9), 5001, 5100, ready=5000, lost=1, lane="a", fence=0)
    for n in (10, 11):
        tale.call(f"k{n}", metered(n), 960, lane="a").run(f"k{n}", metered(n), 3000, 3100, lane="a", fence=0)


def paced(*times: int) -> Tale:
    tale = Tale()
    for n, ms in enumerate(times):
        task = f"paced:0:n{n}-0"
        tale.call(f"k{n}", task, ms - 5, lane="a").run(
            f"k{n}", task, ms + 2, ms + 9, ready=ms, lane="a", fence=0
        )
    return tale


def shared(*admitted: tuple[str, int]) -> Tale:
    """Tasks of a fair type that were all accepted by 200, and were let in at these times."""
    tale = Tale()
    for n, (lane, ms) in enumerate(admitted):
        task = f"shared:0:n{n}-0"
        tale.call(f"k{n}", task, 100 + n, lane=lane).run(
            f"k{n}", task, ms + 2, ms + 8, ready=ms, lane=lane, fence=0
        )
    return tale


def chain(*steps: tuple[int, int], fences: tuple[int, ...] = (1, 2, 3), kind: str = "chain") -> Tale:
    """Tasks of one lane, accepted one after the other."""
    tale = Tale()
    for n, (start, end) in enumerate(steps):
        task = f"{kind}:0:n{n}-0"
        tale.call(f"k{n}", task, 100 + 10 * n, lane="a")
        tale.run(f"k{n}", task, start, end, lane="a", fence=fences[n])
    return tale


def zombie(gone: int = 1500, *, began: int = 1510) -> Tale:
    """The first of a lane was taken from its worker, which runs on while it runs again, and the next one."""
    tale = Tale().call("k0", "chain:0:n0-0", 100, lane="a").call("k1", "chain:0:n1-0", 110, lane="a")
    tale.run("k0", "chain:0:n0-0", 1000, 2000, gone=gone, lane="a", fence=1)
    tale.run("k0", "chain:0:n0-0", began, 1600, ready=1500, lost=1, lane="a", fence=2)
    return tale.run("k1", "chain:0:n1-0", 1610, 1700, lane="a", fence=3)


def halted(*, purged: int | None) -> Tale:
    """A dead letter shuts its lane until it is purged."""
    tale = Tale().call("k0", "halting:0:n0-0", 100, lane="a").call("k1", "halting:0:n1-0", 110, lane="a")
    for failed in range(3):
        start = 1000 + 100 * failed
        tale.run(
            "k0", "halting:0:n0-0", start, start + 10, failed=failed, event="fail", lane="a", fence=failed + 1
        )
    tale.note("purge", purged or 3000, id="halting:0:n0-0", key="k0")
    tale.counters["halting"] |= {"accepted": 1, "dead": 1, "purged": 1, "retried": 2}
    return tale.run("k1", "halting:0:n1-0", 2000, 2010, lane="a", fence=4)


def test_what_lanes_promise_is_found_to_hold() -> None:
    assert lanes().found() == set()
    assert paced(1000, 1125, 1334, 1667).found() == set()
    assert chain((1000, 1100), (1104, 1200), (1204, 1300)).found() == set()
    assert zombie().found() == set()
    assert halted(purged=1900).found() == set()


@pytest.mark.parametrize(
    "spoil",
    [
        above_the_limit_of_a_lane, above_the_limit_of_the_type, ready_above_the_limit,
        dead_and_not_yet_taken_back,
    ],
)  # fmt: skip
def test_a_limit_that_is_passed_is_found(spoil: Callable[[Tale], None]) -> None:
    tale = lanes()
    spoil(tale)
    assert tale.found() == {"above a limit"}


def test_a_zombie_is_counted_until_its_entry_is_gone_and_no_longer() -> None:
    assert zombie(gone=1550).found() == set()  # the same task twice is one
    assert zombie(gone=1620).found() == {"above a limit"}


def test_a_rate_that_is_passed_is_found() -> None:
    assert paced(1000, 1125, 1255).found() == {"above a rate"}  # of its lane
    whole = paced(1000)
    for n, lane in enumerate("bc"):
        task = f"paced:0:n{n + 5}-0"
        whole.call(lane, task, 900, lane=lane).run(
            lane, task, 1082 + n, 1090, ready=1080 + n, lane=lane, fence=0
        )
    assert whole.found() == {"above a rate"}


def test_a_retry_takes_a_token_and_what_is_taken_back_does_not() -> None:
    tale = paced(1000, 1125)
    assert tale.run("k0", "paced:0:n0-0", 1140, 1145, lost=1, lane="a", fence=0).found() == set()
    tale = paced(1000, 1125)
    tale.run("k0", "paced:0:n0-0", 1140, 1145, failed=1, lane="a", fence=0)
    assert "above a rate" in tale.found()


def test_lanes_that_have_their_turns_are_found_to_be_fair() -> None:
    turns = (
        ("a", 1000),
        ("b", 1010),
        ("a", 1020),
        ("a", 1030),
        ("b", 1040),
        ("a", 1050),
        ("a", 1060),
        ("a", 1070),
    )
    assert shared(*turns).found() == set()
    alone = [("a", 1000 + 10 * n) for n in range(8)]
    assert shared(*alone).found() == set()


def test_a_lane_that_waits_while_another_is_let_in_again_and_again_is_found() -> None:
    assert shared(*[("a", 1000 + 10 * n) for n in range(4)], ("b", 1050)).found() == {"unfair share"}
    again = ("b", 1000), *[("a", 1010 + 10 * n) for n in range(4)], ("b", 1070)
    assert shared(*again).found() == {"unfair share"}


def test_who_overtakes_is_found() -> None:
    assert chain((1000, 1100), (1300, 1400), (1204, 1290), fences=(1, 3, 2)).found() == {"overtaken"}


def test_two_of_an_ordered_lane_are_found() -> None:
    assert chain((1000, 1100), (1099, 1200), (1204, 1300)).found() == {"above a limit"}


def test_a_fence_that_does_not_grow_is_found() -> None:
    steps = (1000, 1100), (1104, 1200), (1204, 1300)
    assert chain(*steps, fences=(1, 1, 2)).found() == {"fence fell"}
    assert chain(*steps, fences=(2, 1, 3)).found() == {"fence fell"}
    assert chain(*steps, fences=(0, 0, 0)).found() == {"fence fell"}


def test_a_lane_that_goes_on_behind_a_dead_letter_is_found() -> None:
    assert halted(purged=None).found() == {"overtaken"}


def lock(kind: str = "single", *, conflict: str = "return", second: str = "joined") -> Tale:
    """A key is called, called again while its task waits, and once more when that has ended."""
    one, two = f"{kind}:0:n1-0", f"{kind}:0:n2-0"
    tale = Tale().call("k0", one, 100, lock="a", conflict=conflict)
    tale.call("k1", one, 200, second, lock="a", conflict=conflict)
    tale.run("k1" if conflict == "replace" else "k0", one, 1000, 1100, lock="a")
    return tale.call("k2", two, 1200, lock="a", conflict=conflict).run("k2", two, 1300, 1400, lock="a")


def test_what_unique_keys_promise_is_found_to_hold() -> None:
    assert lock().found() == set()
    assert lock("latest").found() == set()
    assert lock(conflict="replace").found() == set()
    assert lock(conflict="raise", second="refused").found() == set()


def two_at_once(tale: Tale) -> None:
    tale.call("x", "single:0:n3-0", 1150, lock="a", conflict="return")
    tale.run("x", "single:0:n3-0", 1350, 1450, lock="a")


def two_that_wait(tale: Tale) -> None:
    tale.call("x", "latest:0:n3-0", 300, lock="a", conflict="return")
    tale.run("x", "latest:0:n3-0", 1050, 1150, lock="a")


def named_and_ended(tale: Tale) -> None:
    tale.call("x", "single:0:n1-0", 1150, "joined", lock="a", conflict="return")


def named_and_nowhere(tale: Tale) -> None:
    tale.call("x", "single:0:", 300, "refused", lock="a", conflict="raise")
    tale.events[-1]["holder"] = "single:0:n9-0"


def joined_and_lost(tale: Tale) -> None:
    tale.call("x", "single:0:n9-0", 300, "joined", lock="a", conflict="return")


def joined_and_ran(tale: Tale) -> None:
    for event in tale.events:
        if event.get("id") == "single:0:n1-0" and event["event"] == "start":
            event["key"] = "k1"


@pytest.mark.parametrize(
    ("spoil", "kind", "rules"),
    [
        (two_at_once, "single", {"two of a key"}), (two_that_wait, "latest", {"two of a key"}),
        (named_and_ended, "single", {"conflict lost"}), (named_and_nowhere, "single", {"conflict lost"}),
        (joined_and_lost, "single", {"conflict lost", "lost"}),
        (joined_and_ran, "single", {"wrong arguments"}),
    ],
)  # fmt: skip
def test_a_key_that_does_not_hold_is_found(spoil: Callable[[Tale], None], kind: str, rules: set[str]) -> None:
    tale = lock(kind)
    spoil(tale)
    assert tale.found() == rules


def test_a_call_that_replaced_the_arguments_and_was_forgotten_is_found() -> None:
    tale = lock(conflict="replace")
    for event in tale.events:
        if event.get("id") == "single:0:n1-0" and event["event"] == "start":
            event["key"] = "k0"
    assert tale.found() == {"conflict lost"}


def schedule(name: str = "beat", *, ran: tuple[int, ...] = (1, 2, 3, 4), **state: Any) -> Tale:
    """A schedule that was made at 10 s, and dealt with four times."""
    step = PROMISES[name].every * 1000
    tale = Tale()
    tale.schedules[name] = {"anchor": 10_000, "last": 10_000 + 4 * step, "runs": len(ran), **state}
    for n in ran:
        at = 10_000 + n * step
        tale.run("", f"{name}:0:n{at}-0", at + 3, at + 900, run=at)
    return tale


def test_what_schedules_promise_is_found_to_hold() -> None:
    assert schedule().found() == set()
    assert schedule("lone", ran=(1, 3, 4), skipped={"overlap": 1}).found() == set()
    assert schedule("queued", ran=(1, 2, 3)).found() == set()  # one waited when it was paused


@pytest.mark.parametrize("name", ["beat", "lone", "queued"])
def test_a_run_that_comes_twice_is_found(name: str) -> None:
    tale = schedule(name)
    at = 10_000 + PROMISES[name].every * 1000
    assert tale.run("", f"{name}:0:n77-0", at + 905, at + 910, run=at).found() == {"run twice"}


def test_a_run_that_is_missing_is_found() -> None:
    assert schedule(ran=(1, 2, 4)).found() == {"run missing"}
    assert schedule("lone", ran=(1, 2, 4)).found() == {"run missing"}
    assert schedule("queued", ran=(1, 2)).found() == {"run missing"}
    assert schedule("lone", ran=(1, 2, 4), skipped={"overlap": 2}).found() == {"run missing"}
    assert schedule("lone", runs=3).found() == {"run missing"}


def test_a_run_for_a_time_that_was_never_due_is_found() -> None:
    tale = schedule("lone", ran=(1, 2, 3), skipped={"overlap": 1}, runs=4)
    assert "run of no time" in tale.run("", "lone:0:n1-7", 12_500, 12_600, run=12_500).found()


def test_two_runs_at_once_are_found_where_the_rule_is_to_skip() -> None:
    tale = schedule("lone", ran=(1, 2, 3))
    tale.run("", "lone:0:n9-0", 13_500, 13_950, run=14_000)
    tale.schedules["lone"]["runs"] = 4
    assert tale.found() == {"runs overlap"}


def newest(*ran: tuple[int, int, int], event: str = "interrupted", **state: Any) -> Tale:
    """Runs that are each cancelled by the next: which time, and from when to when. The last one completes."""
    tale = Tale()
    tale.schedules["newest"] = {"anchor": 10_000, "last": 10_000 + 1000 * len(ran), "runs": len(ran), **state}
    for n, start, end in ran:
        last = n == len(ran)
        task = f"newest:0:n{n}-0"
        tale.run("", task, start, end, run=10_000 + 1000 * n, event="effect" if last else event)
        if not last and event == "interrupted":
            tale.cancelled.append(task)
    return tale


def test_runs_that_the_next_one_cancels_are_found_to_be_right() -> None:
    assert newest((1, 11_005, 12_020), (2, 12_010, 13_010), (3, 13_005, 18_600)).found() == set()
    assert (
        newest((1, 11_005, 12_020), (2, 12_010, 14_000), last=13_000, skipped={"misfire": 1}).found() == set()
    )


def test_a_run_that_goes_on_beside_the_next_one_is_found() -> None:
    slow = newest((1, 11_005, 16_505), (2, 12_010, 17_600), event="effect")
    assert slow.found() == {"run not cancelled"}
    disturbed = newest((1, 11_005, 16_505), (2, 12_010, 17_600), event="effect")
    assert disturbed.note("fault", 12_500, kind="server_stopped", whom="server").found() == set()


def test_a_run_that_is_cancelled_without_a_next_one_is_found() -> None:
    tale = newest((1, 11_005, 12_020))
    tale.ended.clear()
    tale.counters.clear()
    tale.cancelled.append("newest:0:n1-0")
    assert "run cancelled" in tale.found()


def test_a_newest_run_that_is_missing_is_found() -> None:
    assert newest((1, 11_005, 12_020), (2, 12_010, 14_000), last=14_000).found() == {"run missing"}
