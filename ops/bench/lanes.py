"""What lanes cost the server: its time for a task, by what is done to it.

The time is the processor time of the server's main thread, which other load on the machine changes less than
the time that passes. It has the reading of the calls and the replies in it. With `--scripts`, and where the
system does not tell it, it is that of the scripts in INFO commandstats, which is time that passes.

Run: python -m ops.bench.lanes [--runs 7] [--redis] [--scripts]. A server of its own; nothing else may use it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.worker import Source
from streamq.embedded import EmbeddedServer
from streamq.keys import shard_keys, type_keys
from streamq.model.outcome import Completed, Settlement
from streamq.model.task import NewTask
from streamq.options.lane import Lane, StartRate, gate
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

TASKS = 2_000
LANES = 1_000
"""More than a hash or sorted set keeps in its compact form, where each step walks all of it."""
PAYLOAD = b'{"n": "' + b"x" * 90 + b'"}'
T, S = type_keys("bench", 0, "work"), shard_keys("bench", 0)

EVERYTHING = gate(10**6, StartRate(10**6, 0.001, 10**6), Lane("of", running=10**6, fair=True))
SHUT = gate(0, None, Lane("of"))
ONE = gate(1, None, Lane("of", fair=True))
FREE = gate(None, None, Lane("of", running=10**6))


class Bench:
    """A server, and what its scripts took."""

    def __init__(self, transport: SyncTransport, *, scripts: bool = False) -> None:
        self._transport = transport
        self._number = 0
        told = self.command("INFO", "server").decode().partition("process_id:")[2].split()[0]
        path = Path(f"/proc/{told}/task/{told}/schedstat")
        self._processor = path if path.exists() and not scripts else None

    def _spent(self) -> float:
        assert self._processor is not None
        return int(self._processor.read_text().split()[0]) / 1000

    def run(self, call: Call[Any]) -> Any:
        return self._transport.run(call)

    def command(self, *args: Any) -> Any:
        return self.run(Call(None, (), args, lambda reply: reply))

    def begin(self, rules: str) -> None:
        self.command("FLUSHALL")
        policy = {"gate": rules, "window": "1000000", "max_backlog": "999999999999999"} if rules else {}
        self.run(producer_calls.register(T, S, "bench:work", policy))
        self.run(worker_calls.groups(T.streams))

    def used(self, what: Callable[[], object]) -> float:
        """Return the server's time for what is called, in us."""
        if self._processor is not None:
            before = self._spent()
            what()
            return self._spent() - before
        self.command("CONFIG", "RESETSTAT")
        what()
        stats = self.command("INFO", "commandstats").decode()
        usec = [
            line.partition("usec=")[2].partition(",")[0] for line in stats.splitlines() if "evalsha" in line
        ]
        return sum(map(float, usec))

    def enqueue(self, joins: str, size: int, tasks: int = TASKS, lanes: int = LANES) -> None:
        for n in range(0, tasks, size):
            self._number += 1
            new = [
                NewTask(PAYLOAD, joins=joins.replace("LANE", f"customer {(n + m) % lanes}"))
                for m in range(size)
            ]
            self.run(producer_calls.enqueue(T, S, "w", self._number, new))

    def settle(self, size: int, tasks: int, *, rich: bool) -> Iterator[float]:
        """Take and settle, so many at once; the time of each settle."""
        done = 0
        while done < tasks:
            _, found = self.run(worker_calls.fetch("c", size, [Source(T, "n", size)]))
            places = [f"n{entry.entry}" for _, entries in found for entry in entries]
            ids = [
                _field(entry, b"i").decode() or f"n{entry.entry}" for _, entries in found for entry in entries
            ]
            if not places:
                return
            self._number += 1
            claims = [_field(entry, b"c") if rich else b"" for _, entries in found for entry in entries]
            items = [
                Settlement(p, i, Completed(), rich, (), c)
                for p, i, c in zip(places, ids, claims, strict=True)
            ]
            call = worker_calls.settle(T, S, "s", self._number, items)
            yield self.used(lambda call=call: self.run(call))  # type: ignore[misc]
            done += len(places)


def _field(entry: Any, name: bytes) -> bytes:
    return dict(zip(entry.fields[::2], entry.fields[1::2], strict=True)).get(name, b"")


LANE = '{"lane": "LANE"}'
ENQUEUES = {
    "enqueue, lean": ("", ""), "enqueue, rich script, no lane": ("", "{}"),
    "enqueue, lane, free slot": (FREE, LANE), "enqueue, lane, all rules, free": (EVERYTHING, LANE),
    "enqueue, parked": (SHUT, LANE),
}  # fmt: skip


SETTLES = ("settle, lean", "settle, lane, nobody waits", "settle, lane, one admission each")


def enqueues(bench: Bench, name: str, size: int, tasks: int) -> float:
    rules, joins = ENQUEUES[name]
    bench.begin(rules)
    bench.enqueue(joins, 100, LANES)
    return bench.used(lambda: bench.enqueue(joins, size, tasks)) / tasks


def settles(bench: Bench, name: str, size: int, tasks: int) -> float:
    if name == "settle, lean":
        bench.begin("")
        bench.enqueue("", 100, tasks)
    elif name == "settle, lane, nobody waits":
        bench.begin(FREE)
        bench.enqueue(LANE, 100, tasks)
    else:
        # As many in the streams as one batch takes: each settle admits as many as it ends.
        bench.begin(gate(size, None, Lane("of", fair=True)))
        bench.enqueue(LANE, 100, 2 * tasks)
    return sum(bench.settle(size, tasks, rich=name != "settle, lean")) / tasks


def measured(bench: Bench, size: int) -> Iterator[tuple[str, float]]:
    for name in ENQUEUES:
        yield name, enqueues(bench, name, size, TASKS if size > 1 else 500)
    for name in SETTLES:
        yield name, settles(bench, name, size, min(TASKS, 20 * size if size > 1 else 300))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--redis", action="store_true", help="the redis-server on the PATH")
    parser.add_argument("--scripts", action="store_true", help="the scripts' time by INFO commandstats")
    args = parser.parse_args()
    binary = Path(found) if args.redis and (found := shutil.which("redis-server")) else None
    with EmbeddedServer(binary=binary) as server:
        bench = Bench(SyncTransport(Address.parse(server.url)), scripts=args.scripts)
        print(f"us of the server a task, medians of {args.runs}, and of lean")
        for size in (100, 1):
            runs: dict[str, list[float]] = {}
            for _ in range(args.runs):
                for name, took in measured(bench, size):
                    runs.setdefault(name, []).append(took)
            print(f"{size} a call:")
            for name, took in runs.items():
                lean = runs[f"{name.partition(',')[0]}, lean"]
                print(f"  {name:36} {_middle(took):6.2f} {_middle(took) / _middle(lean):6.2f}")


def _middle(took: list[float]) -> float:
    return statistics.median(took)


if __name__ == "__main__":
    main()
