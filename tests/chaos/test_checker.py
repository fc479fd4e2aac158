"""The checker itself: a history in which all is well passes, and each kind of fault in it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.account import draw_up
from tests.chaos.census import Letter, Tally
from tests.chaos.checker import check
from tests.chaos.history import Event
from tests.chaos.recovery import recoveries

S = 1_000_000_000
ONE, TWO, THREE, FOUR = (f"mail:0:n{n}-0" for n in range(1, 5))


class Story:
    """A history and the server's end of it, written by hand."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = 0
        self.tally = Tally(counters={"mail": {}})

    def note(self, name: str, pid: int = 1, **about: Any) -> Story:
        self.now += S // 10
        self.events.append(
            {"event": name, "at": self.now, "wall": self.now // 1_000_000, "pid": pid, **about}
        )
        return self

    def ask(self, key: str, task: str | None = None, conduct: str = "ok", **options: Any) -> Story:
        """A call, and where there is an id its answer."""
        self.note("invoke", key=key, type="mail", conduct=conduct, **options)
        return self.note("accepted", key=key, id=task) if task else self

    def run(
        self, key: str, task: str, *ends: str, attempt: int = 1, lost: int = 0,
        place: str = "", pid: int = 7, conduct: str = "ok", worker: str = "",
    ) -> Story:  # fmt: skip
        """An execution with what it noted. Its token is its place."""
        place = place or f"{'s' if lost > 1 else ''}{task}-{attempt}-{lost}"
        about: dict[str, Any] = {
            "key": key,
            "id": task,
            "attempt": attempt,
            "token": place if not worker else f"{place}-{pid}",
            "conduct": conduct,
            "pid": pid,
        }
        self.note("start", lost=lost, place=place, worker=worker or f"w{pid}", apart=bool(worker), **about)
        for end in ends:
            self.note(end, **about)
        return self

    def end(self, task: str, state: str, token: str | None = None) -> Story:
        self.tally.ended.append((task, state))
        if token is not None:
            self.tally.tokens[task] = token
        return self.count(**{state: 1, "accepted": 1})

    def count(self, **counters: int) -> Story:
        mine = self.tally.counters["mail"]
        for name, number in counters.items():
            mine[name] = mine.get(name, 0) + number
        return self

    def rules(self) -> set[str]:
        return {finding.rule for finding in check(self.events, self.tally)}


def good() -> Story:
    """One of each: completed at once, after a failure, dead, cancelled, expired, lost and found, unknown."""
    story = Story()
    story.ask("a", ONE).run("a", ONE, "effect").end(ONE, "completed", f"{ONE}-1-0").count(started=1)
    story.ask("b", TWO, "fail1").run("b", TWO, "fail", conduct="fail1")
    story.run("b", TWO, "effect", attempt=2, conduct="fail1").end(TWO, "completed", f"{TWO}-2-0")
    story.count(started=2, retried=1)
    story.ask("c", THREE).note("cancel", id=THREE, answer="cancelled").end(THREE, "cancelled")
    story.ask("d", FOUR, expires=0.1).end(FOUR, "expired")
    task = "mail:0:n5-0"
    story.ask("e", task, "fail")
    for attempt in (1, 2, 3):
        story.run("e", task, "fail", attempt=attempt, conduct="fail")
    story.tally.letters[task] = Letter("attempts", [{"error": "Failed"}] * 3)
    story.end(task, "dead").count(started=3, retried=2)
    task = "mail:0:n6-0"
    story.ask("f", task).run("f", task, pid=8).note("fault", kind="worker_killed", killed=8)
    again = f"n{story.now // 1_000_000 + 60}-0"
    story.run("f", task, "effect", lost=1, place=again).end(task, "completed", again)
    story.count(started=2, reclaimed=1)
    task = "mail:0:n7-0"
    story.ask("g").note("unknown", key="g").run("g", task, "effect").end(task, "completed", f"{task}-1-0")
    story.ask("h").note("unknown", key="h")
    story.ask("i").note("refused", key="i")
    return story.count(started=1)


def test_a_good_history_has_no_findings() -> None:
    story = good()
    assert check(story.events, story.tally) == []
    account = draw_up(story.events, story.tally, [], {})
    assert account.accepted == 7
    assert account.accepted == account.completed + account.dead + account.cancelled + account.expired
    assert (account.unknown, account.unknown_taken, account.refused, account.reclaimed) == (2, 1, 1, 1)
    assert [(back.ready_ms, back.started_ms) for back in recoveries(story.events)] == [(60.0, 100.0)]


def lost(story: Story) -> None:
    story.tally.ended.remove((ONE, "completed"))
    story.count(accepted=-1, completed=-1)


def lost_though_it_ran_unasked(story: Story) -> None:
    task = "mail:0:n7-0"
    story.tally.ended.remove((task, "completed"))
    story.count(accepted=-1, completed=-1)


def counted_twice(story: Story) -> None:
    story.count(completed=1, started=1)


def in_two_states(story: Story) -> None:
    story.end(ONE, "dead")


def not_counted(story: Story) -> None:
    story.count(completed=-1)


def enqueued_twice(story: Story) -> None:
    task = "mail:0:n9-0"
    story.run("a", task, "effect").end(task, "completed", f"{task}-1-0").count(started=1)


def one_id_for_two(story: Story) -> None:
    story.ask("z", ONE)


def refused_but_taken(story: Story) -> None:
    task = "mail:0:n9-0"
    story.run("i", task, "effect").end(task, "completed", f"{task}-1-0").count(started=1)


def nobody_asked(story: Story) -> None:
    task = "mail:0:n9-0"
    story.run("nobody", task, "effect").end(task, "completed", f"{task}-1-0").count(started=1)


def more_than_unknown(story: Story) -> None:
    for number in range(9, 12):
        story.end(f"mail:0:n{number}-0", "cancelled")


def attempt_skipped(story: Story) -> None:
    for event in story.events:
        if event.get("id") == TWO and event.get("attempt") == 2:
            event["attempt"] = 3


def attempt_without_failure(story: Story) -> None:
    story.events = [e for e in story.events if not (e.get("id") == TWO and e["event"] == "fail")]


def one_attempt_too_many(story: Story) -> None:
    story.run("e", "mail:0:n5-0", "fail", attempt=4, conduct="fail").count(started=1, retried=1)


def delivered_past_its_losses(story: Story) -> None:
    story.run("f", "mail:0:n6-0", lost=9)


def one_entry_to_two(story: Story) -> None:
    story.run("a", ONE, place=f"{ONE}-1-0", pid=9)


def completed_without_effect(story: Story) -> None:
    story.tally.tokens[ONE] = "somebody else's"


def completed_too_early(story: Story) -> None:
    story.ask("y", "mail:0:n9-0", "fail").run("y", "mail:0:n9-0", "effect", conduct="fail")
    story.end("mail:0:n9-0", "completed", "mail:0:n9-0-1-0").count(started=1)


def dead_too_early(story: Story) -> None:
    story.tally.letters["mail:0:n5-0"] = Letter("attempts", [{"error": "Failed"}] * 2)


def dead_of_no_loss(story: Story) -> None:
    story.tally.letters["mail:0:n5-0"] = Letter("lost", [{"error": "WorkerLost"}] * 2)


def vanished(story: Story) -> None:
    story.tally.letters["mail:0:n5-0"] = Letter("vanished", [])


def cancelled_and_ran(story: Story) -> None:
    story.run("c", THREE)


def cancelled_in_vain(story: Story) -> None:
    story.note("cancel", id=ONE, answer="cancelled")


def accepted_and_unknown(story: Story) -> None:
    story.note("cancel", id=ONE, answer="unknown")


def cancelled_by_nobody(story: Story) -> None:
    story.events = [e for e in story.events if e["event"] != "cancel"]


def expired_without_lifetime(story: Story) -> None:
    story.end(FOUR.replace("n4", "n9"), "expired").ask("x", FOUR.replace("n4", "n9"))


def another_result(story: Story) -> None:
    story.note("result", id=ONE, token="another")  # noqa: S106


def reported_dead(story: Story) -> None:
    story.note("result", id=ONE, error="TaskDead")


def retry_counted_twice(story: Story) -> None:
    story.count(retried=10)


def more_settled_than_started(story: Story) -> None:
    story.count(started=5)


def left_over(story: Story) -> None:
    story.tally.left.append("streamq:{chaos:0}:mail:index: 1 entries")


def audited(story: Story) -> None:
    story.tally.audit.append("I1 mail:0 not where the index says n1-0")


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lost, "lost"), (lost_though_it_ran_unasked, "lost"), (counted_twice, "settled twice"),
        (in_two_states, "settled twice"), (not_counted, "counters"), (enqueued_twice, "enqueued twice"),
        (one_id_for_two, "one id twice"), (refused_but_taken, "refused but taken"),
        (nobody_asked, "never asked for"), (more_than_unknown, "never asked for"),
        (attempt_skipped, "attempts"), (attempt_without_failure, "attempts"),
        (one_attempt_too_many, "attempts"), (delivered_past_its_losses, "attempts"),
        (one_entry_to_two, "delivered twice"), (completed_without_effect, "no effect"),
        (completed_too_early, "wrong end"), (dead_too_early, "attempts"), (dead_of_no_loss, "wrong end"),
        (vanished, "wrong end"), (cancelled_and_ran, "cancel"), (cancelled_in_vain, "cancel"),
        (accepted_and_unknown, "cancel"), (cancelled_by_nobody, "wrong end"),
        (expired_without_lifetime, "wrong end"), (another_result, "result"), (reported_dead, "result"),
        (retry_counted_twice, "counters"), (more_settled_than_started, "counters"),
        (left_over, "left over"), (audited, "audit"),
    ],
)  # fmt: skip
def test_each_fault_is_found(spoil: Callable[[Story], None], rule: str) -> None:
    story = good()
    spoil(story)
    assert rule in story.rules()


SUSPECT = "mail:0:n9-0"


def poison(*ends: str, again: bool = True) -> Story:
    """A suspect whose process died beside others, and of which the second run has ended alone."""
    story = good().ask("y", SUSPECT, "crash")
    story.run("y", SUSPECT, *ends, lost=2, pid=20, conduct="crash", worker="w7")
    if again:
        story.run("y", SUSPECT, "crash", lost=2, pid=21, conduct="crash", worker="w7")
    story.tally.letters[SUSPECT] = Letter("lost", [{"error": "WorkerLost"}] * 3)
    return story.end(SUSPECT, "dead").count(started=1)


def test_a_suspect_may_run_once_more_where_its_process_died() -> None:
    assert poison("crash").rules() == set()


def test_a_suspect_whose_process_did_not_die_is_not_run_again() -> None:
    assert poison().rules() == {"delivered twice"}


def test_a_suspect_is_not_run_a_third_time() -> None:
    story = poison("crash").run("y", SUSPECT, "crash", lost=2, pid=22, conduct="crash", worker="w7")
    assert story.rules() == {"delivered twice"}


def test_what_died_in_its_worker_does_not_run_again_from_one_entry() -> None:
    story = poison("crash")
    for event in story.events:
        if event.get("id") == SUSPECT and event["event"] == "start":
            event["apart"] = False
    assert story.rules() == {"delivered twice"}


def test_nothing_is_begun_beside_what_runs_once_more() -> None:
    story = poison("crash", again=False)
    story.run("y", SUSPECT, lost=2, pid=21, conduct="crash", worker="w7")
    about = {"key": "y", "id": SUSPECT, "attempt": 1, "token": story.events[-1]["token"], "conduct": "crash"}
    story.ask("z", "mail:0:n8-0").run("z", "mail:0:n8-0", "effect")
    story.end("mail:0:n8-0", "completed", "mail:0:n8-0-1-0").count(started=1)
    story.note("crash", pid=21, **about)
    assert story.rules() == {"not alone"}


def test_nobody_is_buried_for_the_deaths_of_others() -> None:
    story = good().ask("y", SUSPECT)
    for lost in range(3):
        story.run("y", SUSPECT, lost=lost, pid=20 + lost)
    story.tally.letters[SUSPECT] = Letter("lost", [{"error": "WorkerLost"}] * 3)
    assert story.end(SUSPECT, "dead").count(started=3, reclaimed=3).rules() == {"innocent"}


def test_a_suspect_runs_from_the_stream_of_suspects() -> None:
    story = good().ask("y", SUSPECT).run("y", SUSPECT, "effect", lost=2, place="n9-2")
    assert story.end(SUSPECT, "completed", "n9-2").count(started=1).rules() == {"not apart"}


@pytest.mark.parametrize(
    ("lost", "wait", "worker", "rules"),
    [
        (0, 6, "w7", set()),
        (0, 1, "w7", {"attempts"}),  # too soon for its timeout
        (3, 6, "w7", {"attempts"}),  # the losses go on, so it was lost, not settled
        (0, 6, "", {"attempts"}),  # in its worker it would have noted its interruption
    ],
)
def test_a_suspect_killed_at_its_timeout_notes_nothing(
    lost: int, wait: int, worker: str, rules: set[str]
) -> None:
    story = good().ask("y", SUSPECT, "overrun")
    story.run("y", SUSPECT, lost=2, pid=20, conduct="overrun", worker=worker)
    story.now += wait * S // 10
    end = f"{'s' if lost else ''}{SUSPECT}-2-{lost}"
    story.run("y", SUSPECT, "effect", attempt=2, lost=lost, conduct="overrun")
    assert story.end(SUSPECT, "completed", end).count(started=2, retried=1).rules() == rules


def test_a_destroyed_group_explains_a_second_delivery_and_nothing_else() -> None:
    story = good().note("fault", kind="group_destroyed")
    story.run("a", ONE, place=f"{ONE}-1-0", pid=9)
    assert story.rules() == set()
    story = good().note("fault", kind="group_destroyed")
    story.now += 60 * S
    task = "mail:0:n9-0"
    story.ask("y", task).run("y", task).run("y", task, "effect", place=f"{task}-1-0", pid=9)
    story.end(task, "completed", f"{task}-1-0").count(started=1)
    assert story.rules() == {"delivered twice"}


def test_a_dead_letter_that_somebody_looks_after_was_dead_and_may_be_gone() -> None:
    story = good().note("result", id=ONE, error="TaskDead").note("requeue", id=ONE)
    assert story.rules() == set()
    story = good().note("purge", id=ONE).note("cancel", id=ONE, answer="unknown")
    assert story.rules() == set()
    story = good().note("cancel", id=ONE, answer="unknown").note("purge", id=ONE)
    assert story.rules() == {"cancel"}
