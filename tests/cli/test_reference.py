"""The reference pages are those that the code makes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamq
from streamq import cli
from streamq.options.table import OPTIONS
from streamq.telemetry.catalogue import METRICS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ops/docs/site/reference"
COMPARE = """
import runpy, sys, pathlib
made = runpy.run_path("ops/docs/reference.py")["pages"]()
folder = pathlib.Path("ops/docs/site/reference")
print(sorted({path.name for path in folder.glob("*.md")} ^ made.keys()))
print([name for name, text in made.items() if (folder / name).read_text() != text])
"""


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pages are made with the oldest Python")
def test_the_pages_are_up_to_date() -> None:
    """In a process of its own: other tests patch what the pages are made from."""
    command = [sys.executable, "-c", COMPARE]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout == "[]\n[]\n", "run: python ops/docs/reference.py"


def test_nothing_is_left_out_and_no_address_is_shown() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.md"))
    headings = set(re.findall(r"^#+ `([^`]+)`$", text, re.MULTILINE))
    assert set(streamq.__all__) <= headings
    assert {f"streamq {name}" for name in cli.COMMANDS} <= headings
    rows = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert {option.name for option in OPTIONS} | METRICS.keys() <= rows
    assert not re.search(r"0x[0-9a-f]{6}", text)
    assert "<module " not in text
    assert str(ROOT) not in text
