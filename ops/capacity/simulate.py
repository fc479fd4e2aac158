"""How fast a queue drains, from what a task costs: a simulation small enough to read, and its check.

    python ops/capacity/simulate.py --check [--count 60000] [--rounds 3]
    python ops/capacity/simulate.py --workers 20 --masters 4 --cores 32 --worker-us 14 --server-us 8

Every process, worker or master, does one thing at a time. A batch goes fetch (at the master) -> run (in the
worker) -> settle (at the master); a worker has one fetch and one settlement under way on each shard and holds
a few batches ahead. Where there are more busy processes than cores, all of them get an even share.
`--check` measures one worker on one master, takes from it what a task costs, and holds what the simulation
makes of that against what is measured with 1 and 2 worker processes on 1 to 3 masters of a Redis Cluster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

from ticks import TooFewTasks, at_least

LEAST: Final = 30_000
"""Tasks of each measured point: four fifths count, and of a master they take 20 of the kernel's ticks."""
BATCH: Final = 200
AHEAD: Final = 6
"""Batches that a worker holds at most: its slots and what it has fetched ahead."""
FETCH: Final = 0.45
"""The part of a master's time that goes into fetching; the rest is settling."""


@dataclass(frozen=True)
class Costs:
    """Microseconds of one core for a task: in the worker, and at the master that has it."""

    worker: float
    server: float


@dataclass
class Process:
    """Does its jobs in their order: (seconds left, what follows)."""

    jobs: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)

    def give(self, seconds: float, then: Callable[[], None]) -> None:
        self.jobs.append((seconds, then))


class Line:
    """One worker on one shard: a fetch and a settlement under way at most, a few batches in hand."""

    def __init__(self, simulation: Simulation, worker: Process, master: Process) -> None:
        self._all, self._worker, self._master = simulation, worker, master
        self._held = 0
        self._fetching = self._settling = False
        self._ended = 0

    def fetch(self) -> None:
        if self._fetching or self._held >= max(1, AHEAD // self._all.masters):
            return
        self._fetching = True
        self._master.give(BATCH * self._all.costs.server * FETCH / 1e6, self._fetched)

    def _fetched(self) -> None:
        self._fetching = False
        self._held += 1
        self._worker.give(BATCH * self._all.costs.worker / 1e6, self._ran)
        self.fetch()

    def _ran(self) -> None:
        self._ended += 1
        self._settle()

    def _settle(self) -> None:
        if self._settling or not self._ended:
            return
        self._settling = True
        self._ended -= 1
        self._master.give(BATCH * self._all.costs.server * (1 - FETCH) / 1e6, self._settled)

    def _settled(self) -> None:
        self._settling = False
        self._held -= 1
        self._all.done += BATCH
        self._settle()
        self.fetch()


class Simulation:
    """So many workers, each on all masters, with a backlog that never ends."""

    def __init__(self, costs: Costs, workers: int, masters: int, cores: int) -> None:
        self.costs, self.masters, self._cores = costs, masters, cores
        self.done = 0
        serving = [Process() for _ in range(masters)]
        working = [Process() for _ in range(workers)]
        self._processes = serving + working
        self._lines = [Line(self, worker, master) for worker in working for master in serving]

    def rate(self, tasks: int = 200_000) -> float:
        """Tasks a second."""
        for line in self._lines:
            line.fetch()
        now, warm = 0.0, tasks // 10
        began = 0.0
        while self.done < tasks + warm:
            now += self._step()
            if not began and self.done >= warm:
                began, warm = now, self.done
        return (self.done - warm) / (now - began)

    def _step(self) -> float:
        """Until the next job is done; answers the seconds that takes."""
        busy = [process for process in self._processes if process.jobs]
        share = min(1.0, self._cores / len(busy))
        least = min(process.jobs[0][0] for process in busy)
        ended: list[Callable[[], None]] = []
        for process in busy:
            left, then = process.jobs.popleft()
            if left - least <= 1e-12:
                ended.append(then)
            else:
                process.jobs.appendleft((left - least, then))
        for then in ended:
            then()
        return least / share


def check(count: int, rounds: int) -> int:
    """Print what is simulated beside what is measured; 1 where one is off by more than a quarter."""
    from points import Points

    cores = os.cpu_count() or 1
    with Points(count) as points:
        measured = {
            (workers, masters): [points.drain(workers, masters) for _ in range(rounds)]
            for masters in (1, 2, 3)
            for workers in (1, 2)
        }
    first = measured[1, 1]
    costs = Costs(
        statistics.median(p.worker_us for p in first), statistics.median(p.server_us for p in first)
    )
    print(f"{cores} cores; a task costs a worker {costs.worker:.1f} µs, a master {costs.server:.1f} µs\n")
    print("| worker processes | masters | simulated/s | measured/s | simulated by measured |")
    print("| --- | --- | --- | --- | --- |")
    off = 0.0
    for (workers, masters), found in measured.items():
        simulated = Simulation(costs, workers, masters, cores).rate()
        real = statistics.median(point.rate for point in found)
        off = max(off, abs(simulated / real - 1))
        print(f"| {workers} | {masters} | {simulated:,.0f} | {real:,.0f} | {simulated / real:.2f} |")
    return int(off > 0.25)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--count", type=at_least(LEAST), default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    for name, default in (("workers", 1), ("masters", 1), ("cores", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--worker-us", type=float, default=14.0)
    parser.add_argument("--server-us", type=float, default=8.0)
    args = parser.parse_args()
    if args.check:
        try:
            return check(args.count, args.rounds)
        except TooFewTasks as error:
            sys.exit(str(error))
    costs = Costs(args.worker_us, args.server_us)
    print(f"{Simulation(costs, args.workers, args.masters, args.cores).rate():,.0f} tasks a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
