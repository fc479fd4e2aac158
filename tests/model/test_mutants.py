"""The model notices when a guard is missing: each mutant of the scripts must fail it.

A few in the normal suite. All of them, which takes minutes:
`STREAMQ_MUTANTS=all pytest tests/model/test_mutants.py -s` prints how many were killed, and names those that
lived; `STREAMQ_MUTANTS=20:40` takes those of that part of the list. Those of lanes,
of steps and signals, of flows and of held rules are at its end, and noticed by machines of their own.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from streamq import scripts
from streamq.embedded import EmbeddedServer
from streamq.errors import StreamQError
from tests.conftest import command
from tests.model import (
    flow_kind_mutants,
    flow_mutants,
    held_mutants,
    lane_mutants,
    mutant,
    nest_mutants,
    step_mutants,
)
from tests.model.flow_kind_mutants import FLOW_KIND_MUTANTS, QUICK_FLOW_KINDS
from tests.model.flow_kinds_machine import KindFuzz
from tests.model.flow_machine import FlowFuzz
from tests.model.flow_mutants import FLOW_MUTANTS, QUICK_FLOWS
from tests.model.held_machine import HeldFuzz
from tests.model.held_mutants import HELD_MUTANTS, QUICK_HELD
from tests.model.lane_mutants import LANE_MUTANTS, QUICK_LANES, LaneMutant
from tests.model.machine import Protocol
from tests.model.mutant import Mutant
from tests.model.mutants import MUTANTS, QUICK
from tests.model.nest_machine import NestFuzz
from tests.model.nest_mutants import NEST_MUTANTS, QUICK_NESTS
from tests.model.step_machine import StepFuzz
from tests.model.step_mutants import QUICK_STEPS, STEP_MUTANTS
from tests.variant import changed, own_clock, without

WANTED = os.environ.get("STREAMQ_MUTANTS", "")
EXAMPLES = 1000 if WANTED else 400


AnyMutant = Mutant | LaneMutant
EVERY: list[AnyMutant] = [
    *MUTANTS,
    *LANE_MUTANTS,
    *STEP_MUTANTS,
    *FLOW_MUTANTS,
    *FLOW_KIND_MUTANTS,
    *HELD_MUTANTS,
    *NEST_MUTANTS,
]


def wanted() -> list[AnyMutant]:
    first, _, last = WANTED.partition(":")
    return EVERY if WANTED == "all" else EVERY[int(first) : int(last)]


def found_out(url: str, one: AnyMutant) -> str:
    """How its machine fails with this mutant; '' where it does not."""
    if isinstance(one, LaneMutant):
        return lane_mutants.noticed(url, one)
    if one in STEP_MUTANTS:
        return by_steps(url, one)
    if one in HELD_MUTANTS:
        return by_registrations(url, one)
    if one in FLOW_KIND_MUTANTS:
        return by_flow_kinds(url, one)
    if one in NEST_MUTANTS:
        return by_nests(url, one)
    return by_flows(url, one) if one in FLOW_MUTANTS else noticed(url, one)


def by_steps(url: str, one: Mutant | None) -> str:
    return mutant.noticed(url, one, lambda *run: StepFuzz(*run).run(), step_mutants.SEEDS)


def by_flows(url: str, one: Mutant | None) -> str:
    return mutant.noticed(url, one, lambda *run: FlowFuzz(*run).run(), flow_mutants.SEEDS)


def by_registrations(url: str, one: Mutant | None) -> str:
    return mutant.noticed(url, one, lambda *run: HeldFuzz(*run).run(), held_mutants.SEEDS)


def by_nests(url: str, one: Mutant | None) -> str:
    return mutant.noticed(url, one, lambda *run: NestFuzz(*run).run(), nest_mutants.SEEDS)


def by_flow_kinds(url: str, one: Mutant | None) -> str:
    return mutant.noticed(url, one, lambda *run: KindFuzz(*run).run(), flow_kind_mutants.SEEDS)


def noticed(url: str, *mutants: Mutant) -> str:
    """How the model fails with these mutants; '' where it does not. No shrinking: that it fails is all that
    we want to know."""
    machine = seed(1)(type("ProtocolOnMutant", (Protocol,), {"url": url}))
    try:
        with changed(*(without(*mutant[:3]) for mutant in mutants), own_clock):
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES, stateful_step_count=60, deadline=None, database=None,
                    phases=[Phase.generate], report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip
    except (
        AssertionError,
        StreamQError,
        KeyError,
        Flaky,
    ) as error:  # Flaky: it fails elsewhere when repeated
        return repr(error)
    return ""


@pytest.mark.parametrize("one", QUICK, ids=str)
def test_a_missing_guard_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert noticed(valkey.url, one), one.fault


@pytest.mark.parametrize("one", QUICK_LANES, ids=str)
def test_a_missing_guard_of_lanes_is_noticed(one: LaneMutant, valkey: EmbeddedServer) -> None:
    assert lane_mutants.noticed(valkey.url, one), one.fault


@pytest.mark.parametrize("one", QUICK_STEPS, ids=str)
def test_a_missing_guard_of_steps_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert by_steps(valkey.url, one), one.fault


@pytest.mark.parametrize("one", QUICK_FLOWS, ids=str)
def test_an_end_that_does_not_tell_its_flow_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert by_flows(valkey.url, one), one.fault


def test_registrations_hold_what_the_twin_says(valkey: EmbeddedServer) -> None:
    assert by_registrations(valkey.url, None) == ""


@pytest.mark.parametrize("one", QUICK_HELD, ids=str)
def test_a_missing_guard_of_held_rules_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert by_registrations(valkey.url, one), one.fault


@pytest.mark.parametrize("one", QUICK_FLOW_KINDS, ids=str)
def test_a_missing_guard_of_a_kind_of_node_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert by_flow_kinds(valkey.url, one), one.fault


@pytest.mark.parametrize("one", QUICK_NESTS, ids=str)
def test_a_missing_guard_of_a_flow_in_a_flow_is_noticed(one: Mutant, valkey: EmbeddedServer) -> None:
    assert by_nests(valkey.url, one), one.fault


@pytest.mark.skipif(not WANTED, reason="minutes: STREAMQ_MUTANTS=all")
@pytest.mark.timeout(3600)
def test_all_missing_guards_are_noticed(valkey: EmbeddedServer) -> None:
    """And the model is content with the scripts as they are."""
    lived: list[str] = []
    for one in wanted():
        how = found_out(valkey.url, one)
        lived += [] if how else [str(one)]
        print(f"{one}: {how[:120] or 'LIVED'}", flush=True)
    print(f"mutants killed {len(wanted()) - len(lived)}/{len(wanted())}")
    assert lived == []
    assert noticed(valkey.url) == ""
    lane_mutants.content(valkey.url)
    assert by_steps(valkey.url, None) == ""
    assert by_flows(valkey.url, None) == ""
    assert by_registrations(valkey.url, None) == ""
    assert by_flow_kinds(valkey.url, None) == ""
    assert by_nests(valkey.url, None) == ""


@pytest.mark.parametrize("one", [one for one in EVERY if isinstance(one, Mutant)], ids=str)
def test_every_mutant_fits_its_script(one: Mutant, valkey: EmbeddedServer) -> None:
    """A script that is rewritten takes its mutants along. One that is no Lua would be noticed for that."""
    changed_text = without(*one[:3])(one.script, scripts.load(one.script).text)
    assert changed_text != scripts.load(one.script).text
    assert command(valkey.url, "SCRIPT", "LOAD", changed_text)


@pytest.mark.parametrize("one", LANE_MUTANTS, ids=str)
def test_every_mutant_of_lanes_fits_its_scripts(one: LaneMutant, valkey: EmbeddedServer) -> None:
    texts = {name: scripts.load(name).text for name in scripts.names()}
    those = [name for name, text in texts.items() if one.concerns(name, text)]
    assert those
    for name in those:
        assert one.change(name, texts[name]) != texts[name]
        assert command(valkey.url, "SCRIPT", "LOAD", one.change(name, texts[name]))


def test_the_clock_of_the_model_is_the_only_other_difference() -> None:
    for name in scripts.names():
        text, ours = scripts.load(name).text, own_clock(name, scripts.load(name).text)
        for line, other in zip(text.splitlines(), ours.splitlines(), strict=True):
            assert line == other or line.strip().startswith("local time = redis.call('TIME')")
