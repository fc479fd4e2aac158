"""Holds the history against what the server says: pure, and believes neither.

Owns the rules. Each finding names its rule, the task, and what is wrong; no finding means that every
accepted task ended exactly once, as its conduct asked for, with its attempts and counters exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tests.chaos import flow_rules, lane_rules, lock_rules, schedule_rules
from tests.chaos.census import Tally
from tests.chaos.history import Event
from tests.chaos.journal import Life
from tests.chaos.promises import DERIVED, DERIVED_KEYS, PROMISES, RECURRING
from tests.chaos.record import Finding, History
from tests.chaos.slots import Attempts
from tests.chaos.tasks import MAX_ATTEMPTS, OVERRUN, TIMEOUT

MAX_LOST: Final = 3
ALONE_FROM: Final = 2 * MAX_LOST
"""Lost deliveries in a row from which on nothing runs beside a task."""
FOREVER: Final = 3 * MAX_LOST
"""Lost deliveries in a row that end a task which is not proved guilty."""
EXACT_STARTS: Final = ("mail", "capped")
"""Types whose handler notes its start before anything can cut it short."""
_S: Final = 1_000_000_000


def check(events: Iterable[Event], final: Tally, lives: Mapping[str, Life] | None = None) -> list[Finding]:
    """Everything that is wrong, or nothing. lives: what the servers' journals tell of each task."""
    events = list(events)
    history = History.of(events)
    states = _states(history, final)
    attempts = Attempts(history, lives or {})
    return [
        *history.doubled,
        *_acceptance(history, states),
        *_identity(history, states),
        *_once(history, states),
        *(finding for task in states for finding in _attempts(history, task)),
        *(finding for task in states for finding in _end(history, task, states[task][0], final)),
        *_deliveries(history),
        *_answers(history, states, final),
        *_counters(history, states, final),
        *lane_rules.check(history, attempts),
        *lock_rules.check(history, attempts, states),
        *schedule_rules.check(attempts, final, history.faults),
        *flow_rules.check(events, history, states, final),
        *(Finding("left over", what.partition(": ")[0], what.partition(": ")[2]) for what in final.left),
        *(Finding("audit", problem, "streamq audit reports it") for problem in final.audit),
    ]


def _states(history: History, final: Tally) -> dict[str, list[str]]:
    """How each task ended. A letter that an operator took away ended so."""
    states: dict[str, list[str]] = defaultdict(list)
    for task, state in final.ended:
        states[task].append(state)
    for task in history.by_id:
        if task not in states and history.of_task(task, "purge"):
            states[task].append("purged")
    return states


def _acceptance(history: History, states: dict[str, list[str]]) -> Iterator[Finding]:
    """Accepted is never lost; refused never exists; unknown is 0 or 1."""
    for key, asked in history.asked.items():
        if asked.told in ("accepted", "joined") and asked.id not in states:
            yield Finding("lost", str(asked.id), f"accepted for {key} and in no final state")
        if asked.told == "refused" and history.ids[key]:
            yield Finding("refused but taken", key, f"runs as {sorted(history.ids[key])}")
        if len(history.ids[key]) > 1:
            yield Finding("enqueued twice", key, f"{asked.told}, and is {sorted(history.ids[key])}")


def _identity(history: History, states: dict[str, list[str]]) -> Iterator[Finding]:
    """Every task that exists was asked for: by an accepted call, or by one whose outcome is unknown."""
    for key in history.ids.keys() - history.asked.keys():
        if key.startswith(DERIVED_KEYS):
            continue
        yield Finding("never asked for", key, f"runs as {sorted(history.ids[key])}")
    open_keys = Counter(a.type for a in history.asked.values() if a.told in ("invoke", "unknown"))
    extra: dict[str, list[str]] = defaultdict(list)
    for task in states:
        if task not in history.accepted and task.partition(":")[0] not in (*RECURRING, *DERIVED):
            extra[task.partition(":")[0]].append(task)
    for name, tasks in extra.items():
        if len(tasks) > open_keys[name]:
            yield Finding(
                "never asked for",
                name,
                f"{len(tasks)} tasks nobody knows, {open_keys[name]} calls unknown: {tasks[:5]}",
            )
    for task, events in history.by_id.items():
        if task not in states and any(event["event"] == "start" for event in events):
            yield Finding("lost", task, "has run and is in no final state")


def _once(history: History, states: dict[str, list[str]]) -> Iterator[Finding]:
    for task, ends in states.items():
        if len(ends) > 1:
            yield Finding("settled twice", task, f"is {' and '.join(ends)}")


def _attempts(history: History, task: str) -> Iterator[Finding]:
    """Attempts count from 1 without a gap up to the policy's; each but the first follows a failure."""
    starts = history.of_task(task, "start")
    numbers = sorted({event["attempt"] for event in starts})
    if numbers != list(range(1, len(numbers) + 1)):
        yield Finding("attempts", task, f"ran as attempts {numbers}")
    if numbers and numbers[-1] > MAX_ATTEMPTS:
        yield Finding("attempts", task, f"attempt {numbers[-1]} of {MAX_ATTEMPTS}")
    for number in numbers[1:]:
        first = min((e for e in starts if e["attempt"] == number), key=lambda event: int(event["at"]))
        if not _failed(history, task, number - 1, first):
            yield Finding("attempts", task, f"attempt {number} follows no failure of attempt {number - 1}")
    if any(event["lost"] >= FOREVER for event in starts):
        yield Finding("attempts", task, "was delivered after it had lost as many deliveries as it may lose")
    for event in starts:
        if event["lost"] >= MAX_LOST - 1 and event["place"][0] != "s":
            yield Finding("not apart", task, f"has lost {event['lost']} deliveries and ran like any other")
        if event["lost"] >= ALONE_FROM and not task.startswith("image:"):
            yield from _alone(history, event)


def _failed(history: History, task: str, attempt: int, before: Event) -> bool:
    """Whether this attempt failed, or may have been cut short by its timeout, before that start."""
    # A crash ends an attempt only where it is not the worker that dies of it.
    names = ("start", "fail", "interrupted", *(["crash"] if task.startswith("image:") else []))
    events = [e for e in history.of_task(task, *names) if e["attempt"] == attempt and e["at"] < before["at"]]
    return any(
        event["event"] != "start" or before["at"] - event["at"] > _limit(event, before) * _S
        for event in events
    )


def _limit(start: Event, following: Event) -> float:
    """Seconds that an attempt may take. A suspect's process is killed at its timeout, and notes nothing; the
    attempt is settled then, which a lost one is not: its losses are forgotten."""
    settled = following["lost"] < start["lost"]
    return OVERRUN if _is_suspect(start) and settled and start["conduct"] == "overrun" else TIMEOUT


def _is_suspect(start: Event) -> bool:
    """Whether it was run as a suspect, in a process of its own."""
    return bool(start["apart"] and start["place"][0] == "s" and start["lost"] >= MAX_LOST - 1)


def _end(history: History, task: str, state: str, final: Tally) -> Iterator[Finding]:
    """What the end must have behind it."""
    starts = history.of_task(task, "start")
    conduct = starts[0]["conduct"] if starts else None
    effects = {event["token"]: event for event in history.of_task(task, "effect")}
    if state == "completed":
        effect = effects.get(str(final.tokens.get(task)))
        if task.startswith(("source:", "member:", "gather:")):  # which return more than their token
            effect = next(iter(effects.values()), None)
        if effect is None:
            yield Finding(
                "no effect", task, f"completed with {final.tokens.get(task)!r}, which no handler returned"
            )
        else:
            conduct = effect["conduct"]  # another call may have given it other arguments
        least = {"fail1": 2, "retry": 2, "overrun": 2, "fail2": 3, "fail": MAX_ATTEMPTS + 1}.get(
            str(conduct), 1
        )
        if effect is not None and effect["attempt"] < least:
            yield Finding("wrong end", task, f"{conduct} completed in attempt {effect['attempt']}")
        if conduct == "crash" and not task.startswith("image:"):
            yield Finding("wrong end", task, "it always kills its worker, and completed")
    elif state == "dead":
        yield from _dead(history, task, conduct, final)
    elif state == "expired" and not _may_expire(history, task):
        yield Finding("wrong end", task, "expired without a lifetime")
    elif (
        state == "cancelled"
        and not history.of_task(task, "cancel")
        and task.partition(":")[0] not in DERIVED  # the flow may have been
        and not _superseded(task)
    ):
        yield Finding("wrong end", task, "cancelled by nobody")


def _superseded(task: str) -> bool:
    """Whether the next run of its schedule cancels it."""
    promise = PROMISES.get(task.partition(":")[0])
    return promise is not None and promise.overlap == "cancel"


def _may_expire(history: History, task: str) -> bool:
    key = history.accepted.get(task)
    return key is None or history.asked[key].expires


def _dead(history: History, task: str, conduct: str | None, final: Tally) -> Iterator[Finding]:
    letter = final.letters.get(task)
    if letter is None:
        yield Finding("wrong end", task, "a dead letter that cannot be read")
        return
    attempts = {event["attempt"] for event in history.of_task(task, "start")}
    losses = [failure.get("error") == "WorkerLost" for failure in letter.failures]
    if letter.reason == "attempts":
        failures = len(losses) - sum(losses)
        again = len(history.of_task(task, "requeue"))
        if attempts != set(range(1, MAX_ATTEMPTS + 1)) or (not again and failures != MAX_ATTEMPTS):
            yield Finding("attempts", task, f"dead after attempts {sorted(attempts)} and {failures} failures")
    elif letter.reason == "lost":
        if losses[-MAX_LOST:] != [True] * MAX_LOST:
            yield Finding("wrong end", task, f"dead of lost deliveries, with failures {losses}")
        if not history.of_task(task, "crash") and losses[-FOREVER:] != [True] * FOREVER:
            yield Finding("innocent", task, f"dead of the deaths of others, with failures {losses}")
    else:
        yield Finding("wrong end", task, f"dead for {letter.reason!r}")


def _deliveries(history: History) -> Iterator[Finding]:
    """An entry is handed over once: whatever runs again does so from a new one."""
    seen: dict[tuple[str, str], Event] = {}
    for task, events in history.by_id.items():
        for event in events:
            if event["event"] != "start":
                continue
            before = seen.setdefault((task, event["place"]), event)
            if before is event or history.regrouped(before["at"], event["at"]):
                continue
            if _once_more(history, before, event):
                seen[task, event["place"]] = event
                yield from _alone(history, event)
                continue
            yield Finding(
                "delivered twice", task, f"{event['place']} to {before['worker']} and {event['worker']}"
            )


def _once_more(history: History, before: Event, event: Event) -> bool:
    """Whether a suspect was run once more by its worker, since its process died of it, perhaps of others."""
    died = [
        crash
        for crash in history.of_task(event["id"], "crash")
        if crash["token"] == before["token"] and crash["at"] < event["at"]
    ]
    first = not before.setdefault("again", False)
    event["again"] = True
    same = all(before[name] == event[name] for name in ("worker", "attempt", "lost"))
    apart = _is_suspect(before) and _is_suspect(event) and before["pid"] != event["pid"]
    return bool(died) and first and same and apart


def _alone(history: History, start: Event) -> Iterator[Finding]:
    """What is run once more after its process died runs with nothing beside it."""
    over = min(
        (e["at"] for e in history.by_id[start["id"]] if e.get("token") == start["token"] and e is not start),
        default=start["at"],
    )
    for task, events in history.by_id.items():
        for event in events:
            mine = event["event"] == "start" and event["worker"] == start["worker"]
            if mine and start["at"] < event["at"] < over:
                yield Finding("not alone", start["id"], f"{task} was begun beside it by {start['worker']}")


def _answers(history: History, states: dict[str, list[str]], final: Tally) -> Iterator[Finding]:
    """What producers were told of a task later is what happened."""
    for task, events in history.by_id.items():
        for event in events:
            if event["event"] == "cancel":
                yield from _cancel(history, task, event, states)
            elif event["event"] == "result":
                told = event.get("token") or {
                    "TaskDead": "dead",
                    "TaskCancelled": "cancelled",
                    "TaskExpired": "expired",
                }.get(event["error"], event["error"])
                was_dead = told == "dead" and history.of_task(task, "requeue", "purge")
                if told not in (final.tokens.get(task), *states.get(task, [])) and not was_dead:
                    yield Finding(
                        "result",
                        task,
                        f"was reported as {told}, is {states.get(task)} {final.tokens.get(task)}",
                    )


def _cancel(history: History, task: str, event: Event, states: dict[str, list[str]]) -> Iterator[Finding]:
    purged = any(purge["at"] < event["at"] for purge in history.of_task(task, "purge"))
    if event["answer"] == "unknown" and not purged:
        yield Finding("cancel", task, "was accepted and is unknown when it is to be cancelled")
    if event["answer"] != "cancelled":
        return
    if states.get(task) != ["cancelled"]:
        yield Finding("cancel", task, f"answered cancelled and is {states.get(task)}")
    ran = [start for start in history.of_task(task, "start") if start["at"] > event["at"]]
    if ran and not history.regrouped(event["at"], ran[-1]["at"]):
        yield Finding("cancel", task, "started after the answer that it was cancelled")


def _counters(history: History, states: dict[str, list[str]], final: Tally) -> Iterator[Finding]:
    """The server's counters are what the lists and the history say."""
    for name, counters in final.counters.items():
        tasks = {task: ends for task, ends in states.items() if task.startswith(f"{name}:")}
        ends = Counter(end for several in tasks.values() for end in several)
        expected = {end: ends[end] for end in ("completed", "dead", "cancelled", "expired")}
        expected["accepted"] = len(tasks)
        expected["purged"] = ends["purged"]
        # What was requeued, or purged, was dead before.
        expected["dead"] += ends["purged"] + counters.get("requeued", 0)
        for counter, number in expected.items():
            if (have := counters.get(counter, 0)) != number:
                rule = "settled twice" if counter != "accepted" and have > number else "counters"
                yield Finding(rule, name, f"{counter} is counted {have} times, there are {number}")
        yield from _retries(history, name, tasks, counters)
        if name in EXACT_STARTS:
            runs = sum(event["event"] == "start" for task in history.by_id if task.startswith(f"{name}:")
                       for event in history.by_id[task])  # fmt: skip
            settled = counters.get("started", 0) - counters.get("reclaimed", 0)
            if settled > runs:
                yield Finding("counters", name, f"{settled} executions are settled, {runs} were started")


def _retries(
    history: History, name: str, tasks: dict[str, list[str]], counters: dict[str, int]
) -> Iterator[Finding]:
    """Each retry is counted once. One whose task ended otherwise before it ran again leaves no trace."""
    seen = unseen = 0
    for task, ends in tasks.items():
        attempts = [event["attempt"] for event in history.of_task(task, "start")]
        if attempts:
            seen += max(attempts) - 1
            unseen += (ends != ["completed"]) + MAX_ATTEMPTS * len(history.of_task(task, "requeue"))
    if not seen <= counters.get("retried", 0) <= seen + unseen:
        yield Finding(
            "counters", name, f"retried is {counters.get('retried', 0)}, the history has {seen} (+{unseen})"
        )
