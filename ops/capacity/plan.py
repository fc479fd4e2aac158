"""From what a task costs to what carries a rate: the plan of ops/capacity.md.

    python ops/capacity/measure.py --json > costs.json
    python ops/capacity/plan.py costs.json [--load 0.6] [--backlog 600]

For each rate: cores for producers, worker processes and masters at `--load` of what they can, what the
simulation makes of so many, the network of all masters together, the memory of `--backlog` seconds of tasks
that nobody works on, and of results kept for an hour. It takes as many cores as there are processes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from simulate import Costs, Simulation

RATES: Final = (1_000, 100_000, 1_000_000)
FEATURES: Final = ("plain, in bulk (`enqueue_many`)", "plain, one call each", "result kept", "delayed")
KEPT: Final = 3600
"""Seconds that a result is kept in the plan; by default it is a day."""


def row(cost: dict[str, Any], rate: int, load: float, backlog: int) -> str:
    server_us = cost["enqueue_us"] + cost["run_us"]
    cores = rate * cost["producer_us"] / 1e6 / load
    workers = math.ceil(rate * cost["worker_us"] / 1e6 / load)
    masters = math.ceil(rate * server_us / 1e6 / load)
    # The producers' part of a master's time is not there for the workers.
    costs = Costs(cost["worker_us"], server_us)
    lines = workers * masters
    simulated = Simulation(costs, workers, masters, workers + masters).rate(max(200_000, 4_000 * lines))
    network = rate * (cost["in_bytes"] + cost["out_bytes"]) / 1e6
    waiting = rate * cost["waiting_bytes"] * backlog / 1e9
    left = rate * max(0.0, cost["left_bytes"]) * KEPT / 1e9 if cost["feature"] == "result kept" else 0.0
    return (
        f"| {cost['feature']} | {rate:,} | {cores:.1f} | {workers} | {masters} | {simulated:,.0f} "
        f"| {network:,.1f} MB/s | {waiting:,.1f} GB | {left:,.1f} GB |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("costs", type=Path)
    parser.add_argument("--load", type=float, default=0.6)
    parser.add_argument("--backlog", type=int, default=600)
    args = parser.parse_args()
    found = {cost["feature"]: cost for cost in json.loads(args.costs.read_text())}
    for feature in FEATURES:
        if found[feature]["worker_us"] <= 0 or found[feature]["enqueue_us"] + found[feature]["run_us"] <= 0:
            sys.exit(f"{feature}: {args.costs} says that a task costs nothing; measure with a larger --count")
    heads = ("feature", "tasks/s", "producers' cores", "workers", "masters", "simulated", "network")
    print("| " + " | ".join((*heads, "backlog", "results")) + " |\n|" + " --- |" * 9)
    for feature in FEATURES:
        for rate in RATES:
            print(row(found[feature], rate, args.load, args.backlog))
    return 0


if __name__ == "__main__":
    sys.exit(main())
