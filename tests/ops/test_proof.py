"""ops/proof.md: the promise stands there word for word, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.chaos import __main__ as chaos
from tests.endurance import __main__ as endurance

ROOT: Final = Path(__file__).resolve().parents[2]
PROOF: Final = (ROOT / "ops" / "proof.md").read_text()
PROMISE: Final = (
    "At-least-once execution; settled at most once; an accepted task is never lost while Redis keeps what it "
    "acknowledged; enqueue may be retried without duplicates; a stale worker cannot write."
)
NOT_PROMISED: Final = "exactly-once side effects; order across workers, unless"


@pytest.mark.parametrize("place", ["README.md", "ops/proof.md"])
def test_the_promise_stands_word_for_word(place: str) -> None:
    words = " ".join((ROOT / place).read_text().split())
    assert PROMISE in words
    assert NOT_PROMISED in words


@pytest.mark.parametrize("clause", PROMISE.removesuffix(".").split("; "))
def test_every_clause_has_tests_that_say_it(clause: str) -> None:
    [row] = [line for line in PROOF.splitlines() if line.startswith(f"| {clause} |")]
    named = set(re.findall(r"`(test_\w+)`", row))
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    for name in named:
        [text] = [text for text in texts if f"def {name}(" in text]
        # Its docstring says the clause, word for word.
        body = " ".join(text.partition(f"def {name}(")[2][:900].split())
        assert f"The promise: {clause}." in body, name
    assert len(named) >= 2


def test_its_commands_can_be_called() -> None:
    commands = re.findall(r"^python -m tests\.(chaos|endurance) ?(.*?)(?: +#.*)?$", PROOF, re.MULTILINE)
    assert {name for name, _ in commands} == {"chaos", "endurance"}
    for name, arguments in commands:
        module = chaos if name == "chaos" else endurance
        module._parser().parse_args(arguments.split())
