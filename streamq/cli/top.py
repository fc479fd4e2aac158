"""Watch an app: task types, workers, daemons and the server, live. q or Ctrl-C ends it.

If standard output is not a terminal, or with --once, it prints once; --json prints one object. Rates are
tasks a second: over the last ten seconds while live, otherwise over the last five minutes. Waiting and
running times and success (completed tasks of all that ended) are over the last five minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from typing import Any, Final

from streamq import printable
from streamq.cli import target
from streamq.cli.output import age, brief, moment, say, table, write_json
from streamq.cli.overview import Watch
from streamq.cli.screen import BOLD, Screen
from streamq.doctor.queue import NO_DAEMON
from streamq.errors import RedisUnavailable
from streamq.exit_codes import OK
from streamq.options.checks import seconds

SHARE: Final = 0.1
"""The pause after an update is ten times its duration, so that a large queue is not queried all the time."""
LEAST: Final = 0.25


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", default="2s", metavar="DURATION", help="interval of updates (2s)")
    parser.add_argument("--once", action="store_true", help="print once and end")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    interval = seconds(args.interval, "--interval", least=LEAST)
    watch = Watch(target.find(args, partly=True))
    if args.json:
        write_json(watch.look())
    elif args.once or not sys.stdout.isatty():
        lines = page(watch.look())
        say(*(line.removeprefix(BOLD) for line in lines))
    else:
        _live(watch, interval)
    return OK


def _live(watch: Watch, interval: float) -> None:
    bold = BOLD if "NO_COLOR" not in os.environ else ""
    seen, said, took, due = dict[str, Any](), "", 0.0, 0.0
    with Screen() as screen:
        while True:
            if time.monotonic() >= due:
                began, said = time.monotonic(), ""
                try:
                    seen = watch.look()
                    took = time.monotonic() - began
                except RedisUnavailable as error:
                    said = str(error)
                due = time.monotonic() + max(interval, took / SHARE)
            rows = shutil.get_terminal_size().lines
            foot = said or f"q ends; every {max(interval, took / SHARE):.1f}s"
            lines = [*page(seen, rows - 2), foot] if seen else [foot]
            screen.draw([line.replace(BOLD, bold) for line in lines])
            if screen.key(due - time.monotonic()) in ("q", "Q", "\x04"):
                return


def page(seen: dict[str, Any], rows: int = 1_000_000) -> list[str]:
    """Return the page in this many lines; highlighted ones begin with BOLD."""
    workers, daemons = _workers(seen), _daemons(seen)
    types = _types(
        seen, max(3, rows - len(workers) - len(daemons) - len(_missing(seen)) - len(_faults(seen)) - 4)
    )
    return [*_head(seen), *_missing(seen), *_faults(seen), "", *types, "", *workers, *daemons]


def _states(totals: dict[str, Any]) -> list[str]:
    return ["ready", "running", "scheduled", *(["parked"] if totals.get("parked") else []), "dead"]


def _head(seen: dict[str, Any]) -> list[str]:
    server, totals = seen["server"], seen["totals"]
    most = f" of {size(server['max_memory'])}" if server["max_memory"] else ""
    alive = "?" if seen["daemons"] is None else sum(one["alive"] for one in seen["daemons"]) or "NONE"
    first = (
        f"{seen['app']} at {server['address']}  {server['name']} {server['version']}  "
        f"memory {size(server['used_memory'])}{most}  daemons {alive}  {moment(seen['at_ms'])}"
    )
    states = "  ".join(f"{name} {totals[name]:,}" for name in _states(totals))
    oldest = age(totals["oldest_ready_age"])
    return [
        BOLD + first,
        f"{states}  in {rate(totals['rate_in'])}/s  out {rate(totals['rate_out'])}/s  oldest {oldest}",
    ]


def _missing(seen: dict[str, Any]) -> list[str]:
    """Return the remarks on what is missing from the numbers."""
    said = [target.missing(seen["missing_shards"])] if seen["missing_shards"] else []
    said += [target.more_types(seen["more_types"])] if seen["more_types"] else []
    return [BOLD + f"! {text}" for text in said]


def _faults(seen: dict[str, Any]) -> list[str]:
    """Return the remarks on what could not be read and is missing from the numbers."""
    return [BOLD + f"! {printable.line(fault)[:400]}" for fault in seen.get("faults", ())[:5]]


def _types(seen: dict[str, Any], most: int) -> list[str]:
    listed = seen["types"]
    if not listed:
        return ["no task types yet"]
    left_out = max(0, len(listed) + 1 - most)
    if left_out:
        busiest = sorted(listed, key=lambda one: -(one["ready"] + one["running"] + one["dead"]))
        listed = busiest[: max(1, most - 2)]
        left_out = len(seen["types"]) - len(listed)
    head = [
        "TYPE",
        "READY",
        "RUNNING",
        "SCHEDULED",
        "DEAD",
        "IN/S",
        "OUT/S",
        "OLDEST",
        "WAIT p50",
        "p95",
        "RUN p50",
    ]
    lines = table([*head, "p95", "SUCCESS", ""], [_type(one) for one in listed])
    return [BOLD + lines[0], *lines[1:], *([f"and {left_out} more"] if left_out else [])]


def _type(one: dict[str, Any]) -> list[object]:
    pause, wait, ran = one["paused"], one["wait"], one["run"]
    success = "-" if one["success"] is None else f"{one['success'] * 100:.1f}%"
    why = f": {pause['reason']}" if pause and pause["reason"] else ""
    return [
        one["type"], one["ready"], one["running"], one["scheduled"], one["dead"], rate(one["rate_in"]),
        rate(one["rate_out"]), age(one["oldest_ready_age"]), brief(wait["p50"]), brief(wait["p95"]),
        brief(ran["p50"]), brief(ran["p95"]), success, f"paused by {pause['by']}{why}" if pause else "",
    ]  # fmt: skip


def _workers(seen: dict[str, Any]) -> list[str]:
    if seen["workers"] is None:
        return ["workers: nobody can tell, they send their heartbeats to shard 0"]
    if not seen["workers"]:
        return ["no workers"]
    rows = [_worker(one, seen["at_ms"]) for one in seen["workers"]]
    lines = table(["WORKER", "STATE", "BUSY", "LAST BEAT", "RUNS"], rows)
    return [BOLD + lines[0], *lines[1:]]


def _worker(one: dict[str, Any], now_ms: int) -> list[object]:
    details = one["details"]
    state = ("draining" if details.get("draining") else "alive") if one["alive"] else "silent"
    busy = f"{details.get('running_count', '-')}/{details.get('concurrency', '-')}"
    return [
        one["name"],
        state,
        busy,
        f"{age(one['last_beat_age'])} ago",
        _running(details.get("running"), now_ms),
    ]


def _running(running: object, now_ms: int) -> str:
    """email 3 (longest 12.0s), sms 1 (longest 0.2s)"""
    since: dict[str, list[int]] = {}
    for task in running if isinstance(running, list) else []:
        if isinstance(task, dict) and isinstance(task.get("since_ms"), int):
            since.setdefault(str(task.get("id")).partition(":")[0], []).append(task["since_ms"])
    parts = [
        f"{name} {len(began)} (longest {age(max(0, now_ms - min(began)) / 1000)})"
        for name, began in sorted(since.items(), key=lambda item: -len(item[1]))
    ]
    return ", ".join(parts) or "-"


def _daemons(seen: dict[str, Any]) -> list[str]:
    if seen["daemons"] is None:
        return ["", "! daemons: nobody can tell, the master that they send their heartbeats to is away"]
    problems = [
        f"{one['name']}: {p}" for one in seen["daemons"] for p in one["details"].get("problems") or ()
    ]
    if not any(one["alive"] for one in seen["daemons"]):
        problems.append(NO_DAEMON)
    return ["", *(f"! {problem}" for problem in problems)] if problems else []


def rate(value: float) -> str:
    """Format tasks a second, in a few letters."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def size(number: float) -> str:
    """Format bytes, in a few letters."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
