"""Measure streamq on your server, next to the bare loop.

Enqueues tasks of a separate app, runs workers and a daemon on this machine, and deletes everything
afterwards. Run it on the hosts of your producers and workers: the network is part of the figures. Needs
memory for 200,000 small tasks (about 50 MB); --scale changes that.
"""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from streamq.cli import target
from streamq.exit_codes import OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument("--figures", metavar="NAMES", help="only these figures, separated by commas")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of each measurement; medians are printed (3)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for the tasks of a measurement (1.0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from streamq.bench import measure
    from streamq.cli.output import progress, write_json
    from streamq.cli.signals import as_interrupted
    from streamq.errors import InvalidOption
    from streamq.options.checks import reject_unknown, whole

    figures = args.figures.split(",") if args.figures else list(measure.FIGURES)
    reject_unknown(figures, measure.FIGURES, "--figures")
    rounds = whole(args.rounds, "--rounds", least=1)
    if not 0 < args.scale <= 100:  # also refuses nan
        raise InvalidOption(f"--scale {args.scale:g}: must be more than 0 and at most 100")
    sides = _sides(args)
    with as_interrupted(), progress("bench", len(figures) * rounds * len(sides)) as bar:
        found = measure.compare(sides, figures, rounds, args.scale, lambda: bar.add(1))
    for side in sides:
        side.close()
    if args.json:
        write_json({**found["streamq"], "bare": found["bare"]})
    else:
        _write(found)
    return OK


def _sides(args: argparse.Namespace) -> list[Any]:
    """Return both sides, on a reachable server; raise RedisErrors."""
    from streamq import environment
    from streamq.bench.bare import Bare
    from streamq.bench.ours import Ours
    from streamq.calls import question as question_calls
    from streamq.errors import UsageError
    from streamq.transport.sync_transport import SyncTransport

    address = target.address(args)
    if address.seeds:
        raise UsageError(f"streamq bench needs one server: name one server instead of {address}")
    transport = SyncTransport(address, patience=target.PATIENCE)
    transport.run(question_calls.now())
    transport.close()
    url = address.start_embedded() if address.kind == "embedded" else args.url or environment.URL.get()
    app = f"bench-{secrets.token_hex(4)}"
    return [Ours(url, app), Bare(url, f"streamq-{app}")]


def _write(found: dict[str, dict[str, Any]]) -> None:
    from streamq.cli.output import write_note, write_table

    rows: list[list[str]] = []
    for figure, ours in found["streamq"].items():
        bare = found["bare"][figure]
        if isinstance(ours, dict):
            rows += [_row(f"{figure} {name}", ours[name], bare[name]) for name in ours]
        else:
            rows.append(_row(figure, ours, bare))
    write_table(("figure", "streamq", "bare loop", "ratio"), rows, empty="nothing was measured")
    write_note("ratio: streamq / bare loop")


def _row(name: str, ours: float, bare: float) -> list[str]:
    digits = 0 if ours >= 100 else 2
    return [name, f"{ours:,.{digits}f}", f"{bare:,.{digits}f}", f"{ours / bare:.2f}"]
