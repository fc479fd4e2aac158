"""What sealing and compression cost a task: microseconds and bytes, without a server.

    python ops/bench/payloads.py

Each figure is the best of 15 rounds. `store` is what enqueue does after the arguments are JSON, `read` what
the worker does before it has the JSON again; in `salts` each task comes from another process start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import orjson

from streamq import KeyRing, StreamQ
from streamq.payloads.compression import Compression
from streamq.payloads.pipeline import opened, pipeline_for
from streamq.payloads.stage import About

ROUNDS = 15
SIZES = (50, 1_000, 10_000, 100_000)


def payload(size: int) -> bytes:
    """Return the JSON of orders, about as long as asked: text that compresses as such text does."""
    rows: list[dict[str, object]] = []
    while len(raw := orjson.dumps({"orders": rows})) < size:
        n = len(rows)
        rows.append({"id": n * 7919 % 100_003, "name": f"customer {n * 31 % 997}", "paid": n % 3 == 0})
    return raw if rows[1:] else orjson.dumps({"to": "ada@example.org", "order_id": 7, "note": "thanks"})


def best(work: Callable[[], object], number: int) -> float:
    """Return the microseconds of one call."""
    found = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(number):
            work()
        found = min(found, time.perf_counter() - began)
    return found / number * 1e6


def main() -> None:
    ring = KeyRing(current="2026-11", keys={"2026-11": os.urandom(32)})
    about = About(StreamQ("bench", "redis://localhost:1", keys=ring).name, "order", "payload")
    ways: list[tuple[str, Compression | None, bool]] = [
        ("sealed", None, True), ("zlib", "zlib", False), ("zstd", "zstd", False),
        ("zstd, sealed", "zstd", True),
    ]  # fmt: skip
    print(f"{'stages':<14}{'JSON':>10}{'stored':>10}{'store':>12}{'read':>12}")
    for name, compression, sealed in ways:
        stages = pipeline_for(compression, sealed=sealed)
        assert stages is not None
        for raw in map(payload, SIZES):
            stored = stages.seal(raw, about)
            number = 20 if len(raw) > 50_000 else 500
            stored_in = best(partial(stages.seal, raw, about), number)
            read_in = best(partial(opened, stored, about), number)
            print(f"{name:<14}{len(raw):>8} B{len(stored):>8} B{stored_in:>9.1f} µs{read_in:>9.1f} µs")
    stages, raw, tasks = pipeline_for(None, sealed=True), payload(50), []
    assert stages is not None
    for _ in range(2000):
        ring.forget()  # as a new process would begin
        tasks.append(stages.seal(raw, about))
    began = time.perf_counter()
    for one in tasks:
        opened(one, about)
    each = (time.perf_counter() - began) / len(tasks) * 1e6
    print(f"{'salts':<14}{len(raw):>8} B{len(tasks[0]):>8} B{'':>12}{each:>9.1f} µs")


if __name__ == "__main__":
    main()
