"""List the apps of a server with their shards.

SHARDS is the number in the code of the program that started last: StreamQ("shop", shards=4). To change it,
change the code and deploy. Producers then use the new set. KNOWN is the number of shards that workers and
daemons serve: shards that producers no longer use stay known until they are empty, dead letters included;
then the daemon removes them one by one.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import write_json, write_table
from streamq.control.inspector import Inspector, apps
from streamq.exit_codes import OK
from streamq.shards import AppRecord
from streamq.transport.sync_transport import SyncTransport


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    transport = SyncTransport(target.address(args), patience=target.PATIENCE)
    found = sorted(apps(transport).items())
    inspectors = {name: Inspector(transport, name) for name, _ in found}
    types = {name: one.types() for name, one in inspectors.items()}
    target.report_faults(fault for one in inspectors.values() for fault in one.faults)
    if args.json:
        objects = [
            {"app": n, "shards": r.shards, "known_shards": r.known, "types": types[n]} for n, r in found
        ]
        write_json({"apps": objects})
        return OK
    rows = [[name, record.shards, record.known, len(types[name]), _left(record)] for name, record in found]
    write_table(["APP", "SHARDS", "KNOWN", "TYPES", ""], rows, empty="no app has used this server yet")
    return OK


def _left(record: AppRecord) -> str:
    first, last = record.shards, record.known - 1
    if first > last:
        return ""
    return (
        f"shard {last} is being drained" if first == last else f"shards {first} to {last} are being drained"
    )
