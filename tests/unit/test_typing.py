"""The public surface as type checkers see it: right calls pass, and each wrong one is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = ROOT / "tests" / "typing" / "calls.py"
LINES = CALLS.read_text().splitlines()
WANTED = {number for number, line in enumerate(LINES, 1) if line.endswith("# error")}


def run(*arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return found.stdout


def check(found: dict[int, str]) -> None:
    assert len(WANTED) > 20
    told = [f"{n}: {LINES[n - 1].strip()}: {found.get(n, 'nothing found')}" for n in found.keys() ^ WANTED]
    assert not told, "\n".join(sorted(told))


@pytest.mark.timeout(240)
def test_mypy_finds_each_wrong_call_and_nothing_else(tmp_path: Path) -> None:
    told = run("mypy", "--strict", "--cache-dir", str(tmp_path), "--config-file", "", str(CALLS))
    errors = [line.split(":", 2) for line in told.splitlines() if ": error:" in line]
    assert errors, told
    check({int(number): text for name, number, text in errors if name.endswith("calls.py")})


@pytest.mark.timeout(240)
def test_pyright_finds_each_wrong_call_and_nothing_else() -> None:
    told = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(CALLS)))
    errors = [one for one in told["generalDiagnostics"] if one["severity"] == "error"]
    check({one["range"]["start"]["line"] + 1: one["message"] for one in errors})
