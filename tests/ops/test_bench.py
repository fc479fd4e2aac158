"""The harness of ops/bench: streamq and the bare loop through their adapters, as the peers are run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streamq.bench import measure, record

BENCH = Path(__file__).parents[2] / "ops" / "bench"


def test_the_adapters_produce_and_work(url: str) -> None:
    """Their commands as the harness gives them; run.py itself makes environments, which takes minutes."""
    for name in ("bare", "streamq"):
        with measure.recording() as folder:
            path = f"{BENCH / 'adapters'}:{Path(str(record.__file__)).parent}"
            environment = {**os.environ, "PYTHONPATH": path, "RESULTS": "0"}
            program = [sys.executable, str(BENCH / "adapters" / f"{name}_.py")]
            subprocess.run([*program, "produce", url, "many", "300"], env=environment, check=True)
            worker = subprocess.Popen(
                [*program, "work", url], env=environment, cwd=BENCH / "adapters", start_new_session=True
            )
            try:
                measure.wait_for(folder, 300)
            finally:
                worker.terminate()
                worker.wait(10)
            assert len({stamp for stamp, _ in record.read(folder)}) == 300


def test_every_target_has_a_measure() -> None:
    """The command prints its usage, so all that it imports is there."""
    for program, option in (
        ("targets.py", b"--rounds"),
        ("run.py", b"--rounds"),
        ("application.py", b"--data"),
    ):
        done = subprocess.run(
            [sys.executable, str(BENCH / program), "--help"], capture_output=True, check=True
        )
        assert option in done.stdout


def test_every_system_has_an_adapter_and_pinned_requirements() -> None:
    adapters = {path.stem.rstrip("_") for path in (BENCH / "adapters").glob("*_.*")} - {"bare"}
    pinned = {path.stem for path in (BENCH / "requirements").iterdir()}
    assert adapters == pinned
