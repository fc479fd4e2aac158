"""ops/security.md: every claim names the tests that hold it, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ops" / "security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TEXT)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text()


def test_every_claim_names_a_test() -> None:
    tables = re.findall(r"^\|.*held by \|\n\|[ -|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("place", ["README.md", "ops/README.md"])
def test_it_is_found(place: str) -> None:
    assert "security.md" in (ROOT / place).read_text()
