"""Watch an app: task types, workers, daemons and the server, live. q or Ctrl-C ends it.

If standard output is not a terminal, or with --once, it prints once; --json prints one object. The live view
needs the extra `cli`: pip install 'streamq[cli]'. Rates are
tasks a second: over the last ten seconds while live, otherwise over the last five minutes. Waiting and
running times and success (completed tasks of all that ended) are over the last five minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from streamq.cli import target
from streamq.cli.layout import Block, Line, Table, plain
from streamq.cli.output import draws, write_json, write_lines, write_note
from streamq.cli.overview import Overview, Watch
from streamq.control.formatting import age, duration, moment, rate, size
from streamq.control.heartbeats import WorkerInfo
from streamq.control.overview import TypeSummary
from streamq.doctor.queue import NO_DAEMON
from streamq.errors import RedisUnavailable
from streamq.exit_codes import OK
from streamq.options.checks import seconds

SHARE: Final = 0.1
"""The pause after an update is ten times its duration, so that a large queue is not queried all the time."""
LEAST: Final = 0.25
_EVERYTHING: Final = 1_000_000
_COLUMNS: Final = (
    "TYPE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IN/S", "OUT/S", "OLDEST",
    "WAIT p50", "p95", "RUN p50", "p95", "SUCCESS", "",
)  # fmt: skip


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
        write_lines(*plain(page(watch.read())))
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
            screen.draw([*(page(seen, screen.height - 2) if seen else []), foot])
            if screen.key(due - time.monotonic()) in ("q", "Q", "\x04"):
                return


def page(seen: Overview, rows: int = _EVERYTHING) -> list[Block]:
    """Return the page; types are left out until it fits in this many rows."""
    above, below = [*_head(seen), *_warnings(seen)], [*_workers(seen), *_daemons(seen)]
    room = rows - len(plain([*above, *below])) - 2
    return [*above, Line(""), *_types(seen, max(3, room)), Line(""), *below]


def _head(seen: Overview) -> list[Block]:
    server, totals = seen.server, seen.totals
    most = f" of {size(server.max_memory)}" if server.max_memory else ""
    alive = "?" if seen.daemons is None else sum(one.alive for one in seen.daemons) or "NONE"
    states = ["ready", "running", "scheduled", *(["parked"] if totals.parked else []), "dead"]
    counts = "  ".join(f"{name} {getattr(totals, name):,}" for name in states)
    return [
        Line(
            f"{seen.app} at {server.address}  {server.name} {server.version}  "
            f"memory {size(server.used_memory)}{most}  daemons {alive}  {moment(seen.at_ms)}",
            bold=True,
        ),
        Line(
            f"{counts}  in {rate(totals.rate_in)}/s  out {rate(totals.rate_out)}/s  "
            f"oldest {age(totals.oldest_ready_age)}"
        ),
    ]


def _warnings(seen: Overview) -> list[Block]:
    """Return what is missing from the numbers."""
    texts = [target.missing(seen.missing_shards)] if seen.missing_shards else []
    texts += [target.more_types(seen.more_types)] if seen.more_types else []
    texts += [fault[:400] for fault in seen.faults[:5]]
    return [Line(f"! {text}", bold=True) for text in texts]


def _types(seen: Overview, most: int) -> list[Block]:
    shown = seen.types
    if not shown:
        return [Line("no task types yet")]
    if len(shown) + 1 > most:
        busiest = sorted(shown, key=lambda one: -(one.stats.ready + one.stats.running + one.stats.dead))
        shown = busiest[: max(1, most - 2)]
    left_out = len(seen.types) - len(shown)
    more = [Line(f"and {left_out} more")] if left_out else []
    return [Table(_COLUMNS, [_type(one) for one in shown]), *more]


def _type(one: TypeSummary) -> list[object]:
    stats, recent, pause = one.stats, one.recent, one.pause
    success = "-" if recent.success is None else f"{recent.success * 100:.1f}%"
    why = f": {pause.reason}" if pause and pause.reason else ""
    return [
        stats.type, stats.ready, stats.running, stats.scheduled, stats.dead,
        rate(recent.rate_in), rate(recent.rate_out), age(stats.oldest_ready_age),
        *map(duration, (recent.wait.p50, recent.wait.p95, recent.run.p50, recent.run.p95)),
        success, f"paused by {pause.by}{why}" if pause else "",
    ]  # fmt: skip


def _workers(seen: Overview) -> list[Block]:
    if seen.workers is None:
        return [Line("workers: unknown, shard 0 with their heartbeats is unreachable")]
    if not seen.workers:
        return [Line("no workers")]
    rows = [_worker(one, seen.at_ms) for one in seen.workers]
    return [Table(["WORKER", "STATE", "BUSY", "LAST BEAT", "RUNS"], rows)]


def _worker(one: WorkerInfo, now_ms: int) -> list[object]:
    details = one.details
    state = ("draining" if details.get("draining") else "alive") if one.alive else "silent"
    busy = f"{details.get('running_count', '-')}/{details.get('concurrency', '-')}"
    return [one.name, state, busy, f"{age(one.last_beat_age)} ago", _running(details.get("running"), now_ms)]


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


def _daemons(seen: Overview) -> list[Block]:
    if seen.daemons is None:
        return [Line(""), Line("! daemons: unknown, the master with their heartbeats is unreachable")]
    problems = [f"{one.name}: {p}" for one in seen.daemons for p in one.details.get("problems") or ()]
    if not any(one.alive for one in seen.daemons):
        problems.append(NO_DAEMON)
    return [Line(""), *(Line(f"! {problem}") for problem in problems)] if problems else []
