"""Watch an app: task types, workers, daemons and the server, live. q or Ctrl-C ends it.

If standard output is not a terminal, or with --once, it prints once; --json prints one object. The live view
needs the extra `cli`: pip install 'streamq[cli]'. Rates are tasks a second: over the last ten seconds while
live, otherwise over the last five minutes. Waiting and running times and success (completed tasks of all
that ended) are over the last five minutes.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from typing import Final

from streamq.cli import target
from streamq.cli.layout import Block, Line, Table, cut, fitted, plain
from streamq.cli.output import WIDE, columns, draws, write_json, write_lines, write_note
from streamq.cli.overview import Overview, Watch
from streamq.cli.task import progress_text
from streamq.control.action_log import Pause
from streamq.control.formatting import age, duration, moment, rate, size
from streamq.control.overview import TypeSummary
from streamq.doctor.queue import NO_DAEMON
from streamq.errors import RedisUnavailable
from streamq.exit_codes import OK
from streamq.heartbeat import WorkerInfo
from streamq.options.checks import seconds

SHARE: Final = 0.1
"""The pause after an update is ten times its duration, so that a large queue is not queried all the time."""
LEAST: Final = 0.25
PAUSED: Final = 5
"""Paused types that are named."""
UNSERVED: Final = 3
"""Types without a worker that are named."""
_EVERYTHING: Final = 1_000_000
_COLUMNS: Final = (
    "TYPE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IN/S", "OUT/S", "OLDEST",
    "WAIT p50", "WAIT p95", "RUN p50", "RUN p95", "SUCCESS",
)  # fmt: skip
_DROPPED: Final = ("WAIT p50", "RUN p50", "SUCCESS", "WAIT p95", "RUN p95")
"""The columns that a narrow terminal does without, in this order."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", default="2s", metavar="DURATION", help="interval of updates (2s)")
    parser.add_argument("--once", action="store_true", help="print once and end")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    interval = seconds(args.interval, "--interval", least=LEAST)
    watch = Watch(target.find(args, partly=True))
    if args.json:
        write_json(watch.read().as_object())
    elif draws(sys.stdout) and not args.once:
        _live(watch, interval)
    else:
        write_lines(*plain(page(watch.read(), width=columns(sys.stdout))))
        if sys.stdout.isatty() and not args.once:
            write_note("printed once: the live view needs rich. pip install 'streamq[cli]'")
    return OK


def _live(watch: Watch, interval: float) -> None:
    from streamq.cli.screen import Screen

    seen: Overview | None = None
    problem, took, due = "", 0.0, 0.0
    with Screen() as screen:
        while True:
            if time.monotonic() >= due:
                began, problem = time.monotonic(), ""
                try:
                    seen = watch.read()
                    took = time.monotonic() - began
                except RedisUnavailable as error:
                    problem = str(error)
                due = time.monotonic() + max(interval, took / SHARE)
            foot = Line(problem or f"q ends; every {max(interval, took / SHARE):.1f}s")
            shown = page(seen, screen.height - 2, screen.width) if seen else []
            screen.draw([*shown, foot])
            if screen.key(due - time.monotonic()) in ("q", "Q", "\x04"):
                return


def page(seen: Overview, rows: int = _EVERYTHING, width: int = WIDE) -> list[Block]:
    """Return the page; types are left out until it fits in this many rows, and columns until it fits in this
    width."""
    above = [line for block in (*_head(seen, width), *_warnings(seen)) for line in _folded(block, width)]
    below = [*_workers(seen, width), *_progress(seen, width), *_daemons(seen, width)]
    room = rows - len(plain([*above, *below])) - 2
    return [*above, Line(""), *_types(seen, max(3, room), width), Line(""), *below]


def _folded(line: Line, width: int) -> list[Block]:
    """Return a line as lines that fit."""
    return [Line(part, line.bold) for part in textwrap.wrap(line.text, width, subsequent_indent="  ")]


def _head(seen: Overview, width: int) -> list[Line]:
    server, totals = seen.server, seen.totals
    most = f" of {size(server.max_memory)}" if server.max_memory else ""
    alive = "?" if seen.daemons is None else sum(one.alive for one in seen.daemons) or "NONE"
    states = ["ready", "running", "scheduled", *(["parked"] if totals.parked else []), "dead"]
    counts = "  ".join(f"{name} {getattr(totals, name):,}" for name in states)
    about = f"{server.name} {server.version}  memory {size(server.used_memory)}{most}"
    first = f"{seen.app} at {server.address}"
    last = f"daemons {alive}  {moment(seen.at_ms)}"
    whole = f"{first}  {about}  {last}"
    heads = [whole] if len(whole) <= width else [first, f"{about}  {last}"]
    return [
        *(Line(head, bold=True) for head in heads),
        Line(
            f"{counts}  in {rate(totals.rate_in)}/s  out {rate(totals.rate_out)}/s  "
            f"oldest {age(totals.oldest_ready_age)}"
        ),
    ]


def _warnings(seen: Overview) -> list[Line]:
    """Return what stands still, what is paused, and what is missing from the numbers."""
    texts = [target.missing(seen.missing_shards)] if seen.missing_shards else []
    texts += [NO_DAEMON] if seen.daemons is not None and not any(one.alive for one in seen.daemons) else []
    texts += _unserved(seen)
    texts += seen.standstill.told()
    texts += [target.more_types(seen.more_types)] if seen.more_types else []
    texts += [fault[:400] for fault in seen.faults[:5]]
    paused = [one.pause for one in seen.types if one.pause is not None]
    texts += [_paused(one) for one in paused[:PAUSED]]
    texts += [f"and {len(paused) - PAUSED} more are paused"] if len(paused) > PAUSED else []
    return [Line(f"! {text}", bold=True) for text in texts]


def _unserved(seen: Overview) -> list[str]:
    """Return which types have ready tasks that no living worker takes."""
    served = {str(kind) for one in seen.workers or () if one.alive for kind in one.details.get("types") or ()}
    alone = [
        one.stats for one in seen.types if one.stats.ready and not one.pause and one.stats.type not in served
    ]
    if seen.workers is None or not alone:
        return []
    first = ", ".join(cut(one.type, 24) for one in sorted(alone, key=lambda one: -one.ready)[:UNSERVED])
    more = f" and {len(alone) - UNSERVED} more" if len(alone) > UNSERVED else ""
    return [f"no worker serves {first}{more}: {sum(one.ready for one in alone):,} tasks wait"]


def _paused(pause: Pause) -> str:
    return f"{pause.type} is paused by {pause.by}" + (f": {pause.reason}" if pause.reason else "")


def _types(seen: Overview, most: int, width: int) -> list[Block]:
    shown = seen.types
    if not shown:
        return [Line("no task types yet")]
    if len(shown) + 1 > most:
        busiest = sorted(shown, key=lambda one: -(one.stats.ready + one.stats.running + one.stats.dead))
        shown = busiest[: max(1, most - 2)]
    left_out = len(seen.types) - len(shown)
    more = [Line(f"and {left_out} more")] if left_out else []
    return [fitted(Table(_COLUMNS, [_type(one) for one in shown]), width, _DROPPED), *more]


def _type(one: TypeSummary) -> list[object]:
    stats, recent = one.stats, one.recent
    success = "-" if recent.success is None else f"{recent.success * 100:.1f}%"
    return [
        stats.type, stats.ready, stats.running, stats.scheduled, stats.dead,
        rate(recent.rate_in), rate(recent.rate_out), age(stats.oldest_ready_age),
        *map(duration, (recent.wait.p50, recent.wait.p95, recent.run.p50, recent.run.p95)),
        success,
    ]  # fmt: skip


def _workers(seen: Overview, width: int) -> list[Block]:
    if seen.workers is None:
        return [Line("workers: unknown, shard 0 with their heartbeats is unreachable")]
    if not seen.workers:
        return [Line("no workers")]
    rows = [_worker(one, seen.at_ms) for one in seen.workers]
    table = Table(["WORKER", "STATE", "BUSY", "LAST BEAT", "RUNS"], rows)
    return [fitted(table, width, ("RUNS",))]


def _worker(one: WorkerInfo, now_ms: int) -> list[object]:
    details = one.details
    state = ("draining" if details.get("draining") else "alive") if one.alive else "silent"
    busy = f"{details.get('running_count', '-')}/{details.get('concurrency', '-')}"
    return [one.name, state, busy, f"{age(one.last_beat_age)} ago", _running(details.get("running"), now_ms)]


def _progress(seen: Overview, width: int) -> list[Block]:
    """Return how far the tasks are that have run longest, where they tell it."""
    lines = [f"{name}  {progress_text(told)}" for name, told in seen.progress.items()]
    return [Line(""), *(Line(line[:width]) for line in lines)] if lines else []


def _running(running: object, now_ms: int) -> str:
    """Return the running tasks by type: email 3 (longest 12.0s), sms 1 (longest 0.2s)"""
    since: dict[str, list[int]] = {}
    for task in running if isinstance(running, list) else []:
        if isinstance(task, dict) and isinstance(task.get("since_ms"), int):
            since.setdefault(str(task.get("id")).partition(":")[0], []).append(task["since_ms"])
    parts = [
        f"{name} {len(began)} (longest {age(max(0, now_ms - min(began)) / 1000)})"
        for name, began in sorted(since.items(), key=lambda item: -len(item[1]))
    ]
    return ", ".join(parts) or "-"


def _daemons(seen: Overview, width: int) -> list[Block]:
    if seen.daemons is None:
        return [Line(""), Line("! daemons: unknown, the master with their heartbeats is unreachable")]
    problems = [f"{one.name}: {p}" for one in seen.daemons for p in one.details.get("problems") or ()]
    lines = [part for problem in problems for part in _folded(Line(f"! {problem}"), width)]
    return [Line(""), *lines] if problems else []
