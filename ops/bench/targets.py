"""Every speed and size that streamq promises itself, measured in one run and held against its target.

    python ops/bench/targets.py [--url URL] [--rounds 3] [--only WORDS] [--jsonl FILE]

Prints a Markdown table; exits with 1 where a target was missed. Needs a server that it may fill with a
million tasks (about 250 MB) and whose
SLOWLOG it may set; without --url it embeds one. Takes about 8 minutes on 2 cores. What compares with other
systems is in run.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from streamq.bench import bare, measure, record
from streamq.bench.ours import Ours
from streamq.bench.side import Side
from streamq.transport.address import Address

MILLION: Final = 1_000_000


class Bench:
    """Both sides on one server."""

    def __init__(self, url: str, rounds: int) -> None:
        self.url, self.rounds = url, rounds
        self.ours = Ours(url, "bench-targets")
        self.bare = bare.Bare(url, "streamq-bench-targets-bare")
        self._taken: dict[str, dict[str, Any]] = {}

    def both(self, figure: str) -> tuple[Any, Any]:
        """A figure of streamq and of the bare loop: medians of rounds that take turns."""
        if figure not in self._taken:
            found = measure.compare([self.ours, self.bare], [figure], self.rounds, 1.0, lambda: None)
            self._taken[figure] = {side: values[figure] for side, values in found.items()}
        return self._taken[figure]["streamq"], self._taken[figure]["bare"]

    def ratio(self, figure: str) -> float:
        ours, other = self.both(figure)
        return float(ours / other)

    def median(self, take: Callable[[Bench], float]) -> float:
        """The median of rounds on a clean server."""
        values: list[float] = []
        for _ in range(self.rounds):
            self.clean()
            values.append(take(self))
        self.clean()
        return statistics.median(values)

    def clean(self) -> None:
        self.ours.clean()
        self.bare.clean()


def wait(bench: Bench, percentile: str) -> float:
    ours, other = bench.both("wait_ms")
    return float(ours[percentile] / other[percentile])


def lateness(bench: Bench, percentile: str) -> float:
    return float(bench.both("lateness_ms")[0][percentile])


def payload_bytes() -> int:
    return len(bare.payload(time.monotonic_ns()))


def idle_commands(bench: Bench) -> float:
    """Commands a second of one idle worker and one daemon, each; those inside of scripts are not sent."""
    seconds = 20.0
    with (
        bare.connection(bench.url) as client,
        measure.recording() as folder,
        bench.ours.worker(),
        bench.ours.daemon(),
    ):
        bench.ours.send("forgotten", 1)
        measure.wait_for(folder, 1)
        time.sleep(3.0)
        with client.monitor() as monitor:
            threading.Timer(seconds, client.set, ("bench-targets-end", "1"), {"px": 100}).start()
            sent = 0
            for row in monitor.listen():
                if "bench-targets-end" in row["command"]:
                    return sent / seconds / 2
                sent += row["client_type"] != "lua"
    raise AssertionError("the monitor ended")


def io(concurrency: int) -> Callable[[Bench], float]:
    def take(bench: Bench) -> float:
        count = concurrency * 20
        bench.ours.send("nap", count)
        with measure.recording() as folder, bench.ours.worker(concurrency=concurrency):
            measure.wait_for(folder, count)
            ends = [at for _, at in record.read(folder)]
        return 0.05 * 20 / ((max(ends) - min(ends)) / 1e9 + 0.05)

    return take


def crunch_rate(bench: Bench, slots: int) -> float:
    count = 60 * slots
    bench.clean()
    bench.ours.send("crunch", count)
    with measure.recording() as folder, bench.ours.worker(process_slots=slots):
        measure.wait_for(folder, count)
        ends = sorted(at for _, at in record.read(folder))[10:]  # the children are up
    return (len(ends) - 1) / ((ends[-1] - ends[0]) / 1e9)


def cores(bench: Bench) -> float:
    one = statistics.median(crunch_rate(bench, 1) for _ in range(bench.rounds))
    return statistics.median(crunch_rate(bench, 2) for _ in range(bench.rounds)) / one


def result_bytes(bench: Bench) -> float:
    """Server memory of a kept result: what is there when all tasks are done."""
    count = 20_000
    bench.ours.many(count, stored=True)
    with measure.recording() as folder, bench.ours.worker():
        measure.wait_for(folder, count)
        until(lambda: bench.ours.app.inspector.stats()[0].ready == 0)
        time.sleep(1.0)
    return bench.ours.bytes_used() / count


def server_time(bench: Bench) -> float:
    """Microseconds of the server for a task, ours by the bare loop's, from INFO commandstats."""
    return server_microseconds(bench, bench.ours) / server_microseconds(bench, bench.bare)


def server_microseconds(bench: Bench, side: Side, count: int = 100_000) -> float:
    bench.clean()
    with bare.connection(bench.url) as client, measure.recording() as folder:
        client.config_resetstat()
        side.many(count)
        with side.worker():
            measure.wait_for(folder, count)
            time.sleep(0.5)
            stats = client.info("commandstats")
    mine = side is bench.ours
    # What runs inside a script is counted there too: of ours only what a client sends.
    names = ("evalsha", "eval") if mine else ("xadd", "xreadgroup", "xack", "xdel")
    spent = sum(stats.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in names)
    if mine:
        spent += plain_reads(stats)
    return float(spent) / count


def plain_reads(stats: dict[str, Any]) -> float:
    """Time of all reads, in scripts or not: an upper bound for those outside of them."""
    return float(stats["cmdstat_xreadgroup"]["usec"])


def rss(tasks: int) -> Callable[[Bench], float]:
    """MB of the worker process with so many tasks running."""

    def take(bench: Bench) -> float:
        with measure.recording() as folder, bench.ours.worker(concurrency=max(100, tasks)):
            bench.ours.send("forgotten", 1)
            measure.wait_for(folder, 1)
            bench.ours.send("rest", tasks)
            measure.wait_for(folder, 1 + tasks)
            time.sleep(0.5)
            return resident(int(bench.ours.app.inspector.workers()[0].details["pid"]))

    return take


def resident(pid: int) -> float:
    line = next(
        row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def cold_start(bench: Bench) -> float:
    """Ms from the start of `streamq worker` to its first task."""
    bench.ours.send("forgotten", 1)
    with measure.recording() as folder:
        began = time.monotonic_ns()
        with bench.ours.worker():
            measure.wait_for(folder, 1)
            return (record.read(folder)[0][1] - began) / 1e6


def import_time(_: Bench) -> float:
    """Ms of `from streamq import StreamQ`, a process with and one without."""
    return spent("from streamq import StreamQ") - spent("pass")


def spent(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1000


def growth(bench: Bench, *, delayed: int = 0, waiting: int = 100_000) -> float:
    """Drain rate beside a large backlog, by the rate with ten thousand tasks."""
    small = bench.median(lambda _: drained(bench, 10_000))
    bench.clean()
    if delayed:
        bench.ours.send("forgotten", delayed, delay=86_400)
    rate = drained(bench, waiting)
    bench.clean()
    return rate / small


def drained(bench: Bench, count: int) -> float:
    return measure.drain(bench.ours, count)


@contextmanager
def slowlog(client: Any, microseconds: int) -> Iterator[None]:
    """Have the server note slow commands, as it does not by default."""
    before = client.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
    client.config_set("slowlog-log-slower-than", microseconds)
    client.slowlog_reset()
    try:
        yield
    finally:
        client.config_set("slowlog-log-slower-than", before)


def promote_million(bench: Bench) -> tuple[float, float]:
    """Seconds until a million tasks that fall due at once are in the stream; commands over 5 ms."""
    bench.clean()
    due = datetime.now(UTC) + timedelta(seconds=60)
    bench.ours.send("forgotten", MILLION, at=due)
    with bare.connection(bench.url) as client, slowlog(client, 5000):
        with bench.ours.daemon():
            until(lambda: scheduled(bench) < MILLION, 120)
            began = max(due.timestamp(), time.time() - 0.2)
            until(lambda: scheduled(bench) == 0, 120)
            seconds = time.time() - began
        slow = client.slowlog_len()
    bench.clean()
    return seconds, float(slow)


def scheduled(bench: Bench) -> int:
    return next(one.scheduled for one in bench.ours.app.inspector.stats() if one.type == "forgotten")


def until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.1)


def rows() -> list[tuple[str, str, Callable[[Bench], list[tuple[float, str, float]]]]]:
    """name, unit, what to measure: each answers (value, `>=` or `<=`, target)."""

    def one(take: Callable[[Bench], float], sign: str, target: float) -> Any:
        return lambda bench: [(take(bench), sign, target)]

    def at_least(figure: str, target: float) -> Any:
        return one(lambda bench: bench.ratio(figure), ">=", target)

    def two(bench: Bench) -> float:
        return float(bench.both("drain_two_per_s")[0] / bench.both("drain_per_s")[0])

    def median(take: Callable[[Bench], float]) -> Callable[[Bench], float]:
        return lambda bench: bench.median(take)

    def size(figure: str) -> Callable[[Bench], float]:
        return lambda bench: float(bench.both(figure)[0]) - payload_bytes()

    def million(bench: Bench) -> list[tuple[float, str, float]]:
        seconds, slow = promote_million(bench)
        return [(seconds, "<=", 60.0), (slow, "<=", 0.0)]

    return [
        ("drain, no result stored", "× bare", at_least("drain_per_s", 0.6)),
        ("drain, every result stored", "× bare", at_least("drain_stored_per_s", 0.5)),
        ("drain, two processes by one", "×", one(two, ">=", 1.5)),
        ("enqueue, one at a time, sync", "× bare", at_least("enqueue_per_s", 0.8)),
        ("enqueue, one at a time, async", "× bare", at_least("enqueue_async_per_s", 0.8)),
        ("enqueue, 100 concurrent calls", "× bare", at_least("enqueue_concurrent_per_s", 0.5)),
        ("enqueue_many", "× bare", at_least("enqueue_many_per_s", 0.6)),
        ("wait, p50", "× bare", one(lambda b: wait(b, "p50"), "<=", 1.4)),
        ("wait, p99", "× bare", one(lambda b: wait(b, "p99"), "<=", 1.4)),
        ("lateness, p50", "ms", one(lambda b: lateness(b, "p50"), "<=", 3.0)),
        ("lateness, p99", "ms", one(lambda b: lateness(b, "p99"), "<=", 10.0)),
        ("idle commands a second, a process", "/s", one(median(idle_commands), "<=", 1.0)),
        ("50 ms of I/O, concurrency 100", "of ideal", one(median(io(100)), ">=", 0.95)),
        ("50 ms of I/O, concurrency 1,000", "of ideal", one(median(io(1000)), ">=", 0.95)),
        ("CPU-bound on two processes by one", "×", one(cores, ">=", 1.8)),
        ("ready task, beside its payload", "bytes", one(size("bytes_per_ready_task"), "<=", 32.0)),
        ("delayed task, beside its payload", "bytes", one(size("bytes_per_delayed_task"), "<=", 200.0)),
        ("kept result of None", "bytes", one(median(result_bytes), "<=", 100.0)),
        ("server time of a task", "× bare", one(median(server_time), "<=", 2.0)),
        ("worker memory, idle", "MB", one(median(rss(0)), "<=", 40.0)),
        ("worker memory, 1,000 tasks running", "MB", one(median(rss(1000)), "<=", 60.0)),
        ("cold start to the first task", "ms", one(median(cold_start), "<=", 500.0)),
        ("import for a producer", "ms", one(median(import_time), "<=", 150.0)),
        ("drain with 1M waiting", "× 10k", one(lambda b: growth(b, waiting=MILLION), ">=", 0.9)),
        ("drain with 1M delayed", "× 10k", one(lambda b: growth(b, delayed=MILLION), ">=", 0.9)),
        ("1M due at once, in the stream; commands over 5 ms", "s; count", million),
    ]


def compiled() -> None:
    """Have the bytecode of everything at hand, as it is where a program was started before."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for code in ("from streamq import StreamQ", "import streamq.supervisor.member, streamq.bench.tasks"):
        subprocess.run([sys.executable, "-c", code], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="embedded://")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="rows whose name holds one of these words, separated by commas")
    parser.add_argument("--jsonl", type=Path, help="write a line for each row")
    args = parser.parse_args()
    compiled()
    bench = Bench(
        str(Address.parse(args.url).resolve()) if args.url.startswith("embedded") else args.url, args.rounds
    )
    words = args.only.split(",") if args.only else [""]
    print("| what | measured | target | |\n| --- | --- | --- | --- |")
    missed = 0
    for name, unit, take in rows():
        if any(word in name for word in words):
            missed += report(name, unit, take(bench), args.jsonl)
    bench.clean()
    return 1 if missed else 0


def report(name: str, unit: str, found: list[tuple[float, str, float]], file: Path | None) -> int:
    """A row of the table; answers whether a target was missed."""
    good = all(value >= target if sign == ">=" else value <= target for value, sign, target in found)
    values = "; ".join(
        f"{value:.2f}" if not math.isclose(value, round(value)) else f"{value:.0f}" for value, _, _ in found
    )
    targets = "; ".join(f"{sign} {target:g}" for _, sign, target in found)
    print(f"| {name} | {values} {unit} | {targets} | {'' if good else 'missed'} |", flush=True)
    if file is not None:
        with file.open("a") as out:
            out.write(
                json.dumps({"what": name, "unit": unit, "measured": [v for v, _, _ in found], "met": good})
                + "\n"
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
