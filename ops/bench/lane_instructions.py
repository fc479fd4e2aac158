"""What lanes cost the server: its instructions for a task inside the scripts, counted by callgrind.

Unlike times they can be repeated on a busy machine. Needs valgrind.

Run: python -m ops.bench.lane_instructions [--redis] [--only WORDS] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ops.bench.lanes import ENQUEUES, SETTLES, Bench, enqueues, settles
from streamq.embedded import EmbeddedServer
from streamq.server_binary import find_server
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

COUNTED = {1: 30, 100: 1_000}
"""Tasks that are counted, by tasks a call: enough that the garbage collector's share is an average."""


class Counted(Bench):
    """As Bench, on a server under callgrind: `used` returns instructions in thousands."""

    def __init__(self, transport: SyncTransport, pid: int, folder: Path) -> None:
        super().__init__(transport)
        self._pid, self._folder, self.dumps = pid, folder, 0

    def used(self, what: Callable[[], object]) -> float:
        self._control("--zero")
        what()
        self._control("--dump")
        self.dumps += 1
        dump = (self._folder / f"out.{self.dumps}").read_text()
        totals = next(line for line in dump.splitlines() if line.startswith("totals:"))
        return int(totals.split()[1]) / 1000

    def _control(self, what: str) -> None:
        command = ["callgrind_control", what, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True)


def wrapper(folder: Path, binary: Path) -> Path:
    """Write a program that starts the server under callgrind; return its path."""
    made = folder / "server"
    options = f"--collect-atstart=no --toggle-collect=evalShaCommand --callgrind-out-file={folder}/out"
    made.write_text(f'#!/bin/sh\nexec valgrind --tool=callgrind {options} "{binary}" "$@"\n')
    made.chmod(0o700)
    return made


def count(binary: Path, name: str, size: int, keep: Path | None) -> float:
    """Return the instructions of a task in thousands, on a server of its own."""
    with (
        tempfile.TemporaryDirectory() as home,
        EmbeddedServer(binary=wrapper(Path(home), binary)) as server,
    ):
        transport = SyncTransport(Address.parse(server.url), patience=120.0)
        bench = Counted(transport, server.pid, Path(home))
        measure = enqueues if name in ENQUEUES else settles
        took = measure(bench, name, size, COUNTED[size])
        if keep is not None:
            shutil.copy(Path(home) / f"out.{bench.dumps}", keep / f"{name}.{size}".replace(" ", "_"))
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", action="store_true", help="the redis-server on the PATH")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1])
    parser.add_argument("--only", default="", help="cases whose names have this text, beside the lean ones")
    parser.add_argument("--keep", type=Path, help="a folder for callgrind's files")
    args = parser.parse_args()
    binary = Path(shutil.which("redis-server") or "") if args.redis else find_server()
    for size in args.sizes:
        print(f"thousands of instructions a task, {size} a call:")
        lean: dict[str, float] = {}
        for name in (*ENQUEUES, *SETTLES):
            kind, _, what = name.partition(", ")
            if what != "lean" and args.only not in name:
                continue
            took = count(binary, name, size, args.keep)
            lean.setdefault(kind, took)
            print(f"  {name:36} {took:6.1f} {took / lean[kind]:6.2f} of lean", flush=True)


if __name__ == "__main__":
    main()
