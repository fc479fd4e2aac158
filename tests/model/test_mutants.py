"""The model notices when a guard is missing: each mutant of the scripts must fail it.

A few in the normal suite. All of them, which takes minutes:
`STREAMQ_MUTANTS=all pytest tests/model/test_mutants.py -s` prints how many were killed, and names those that
lived; `STREAMQ_MUTANTS=20:40` takes those of that part of the list.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from streamq import scripts
from streamq.embedded import EmbeddedServer
from streamq.errors import StreamQError
from tests.model.machine import Protocol
from tests.model.mutants import MUTANTS, QUICK, Mutant
from tests.variant import changed, own_clock, without

WANTED = os.environ.get("STREAMQ_MUTANTS", "")
EXAMPLES = 1000 if WANTED else 400


def wanted() -> list[Mutant]:
    first, _, last = WANTED.partition(":")
    return MUTANTS if WANTED == "all" else MUTANTS[int(first) : int(last)]


def killed(mutant: Mutant, url: str) -> bool:
    """Whether the model fails with this mutant. No shrinking: that it fails is all we want to know."""
    machine = seed(1)(type("ProtocolOnMutant", (Protocol,), {"url": url}))
    try:
        with changed(without(*mutant[:3]), own_clock):
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES, stateful_step_count=60, deadline=None, database=None,
                    phases=[Phase.generate], report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip
    except (AssertionError, StreamQError, KeyError):
        return True
    return False


@pytest.mark.long
@pytest.mark.parametrize("mutant", QUICK, ids=str)
@pytest.mark.timeout(120)
def test_a_missing_guard_is_noticed(mutant: Mutant, valkey: EmbeddedServer) -> None:
    assert killed(mutant, valkey.url), mutant.fault


@pytest.mark.skipif(not WANTED, reason="minutes: STREAMQ_MUTANTS=all")
@pytest.mark.timeout(3600)
def test_all_missing_guards_are_noticed(valkey: EmbeddedServer) -> None:
    lived: list[str] = []
    for mutant in wanted():
        alive = not killed(mutant, valkey.url)
        lived += [str(mutant)] if alive else []
        print(f"{'LIVED ' if alive else 'killed'} {mutant}", flush=True)
    print(f"mutants killed {len(wanted()) - len(lived)}/{len(wanted())}")
    assert lived == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_fits_its_script(mutant: Mutant) -> None:
    """A script that is rewritten takes its mutants along."""
    change = without(*mutant[:3])
    assert change(mutant.script, scripts.load(mutant.script).text) != scripts.load(mutant.script).text


def test_the_clock_of_the_model_is_the_only_other_difference() -> None:
    for name in scripts.names():
        text, ours = scripts.load(name).text, own_clock(name, scripts.load(name).text)
        for line, other in zip(text.splitlines(), ours.splitlines(), strict=True):
            assert line == other or line.strip().startswith("local time = redis.call('TIME')")
