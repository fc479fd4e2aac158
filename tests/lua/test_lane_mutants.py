"""Each condition of the gate, taken out by hand, is noticed by the fuzz.

Minutes: all of them run where STREAMQ_MUTANTS=all, else one in eight.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from streamq import scripts
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.test_lane_fuzz import PROFILES, STEPS, Fuzz, command
from tests.variant import Change, changed, own_clock


class Mutant(NamedTuple):
    """A piece of the gate and what stands there instead, in every script that has it."""

    old: str
    new: str
    why: str
    profiles: tuple[str, ...]
    changing: bool = False


_RATES = ("rates", "rates of lanes", "order, halt and rate")
_FAIR = ("fair with everything", "fair", "order and fair")
_LIMITS = ("limits", "rates", "fair with everything")
_ORDER = ("order, halt and rate", "order", "order and fair")
_DIRECT = "turning == 0 and not head_of(lane, r)"
_TOKENS = "and ready_at(whole, cost, 0) <= now and room() > 0 then"
_BACK = "r.held = math.max(0, before - 1)"
_TIMER = "if token > now then return set_timer('', token) end"
_NEWCOMER = "whole.n + 1 / whole.window"
_HALT = "if how == 'd' and whole.halt and r.ordered and r.halt == '' then r.halt = id end"
_FOUND = "record(found.lane).head = nil"
MUTANTS = [
    Mutant("r.held = r.held + 1", "r.held = r.held", "a slot is not taken", _LIMITS),
    Mutant(_BACK, "r.held = before", "a slot is not given back", _LIMITS),
    Mutant(_BACK, "r.held = math.max(0, before - 2)", "given back twice", _LIMITS),
    Mutant(
        "if r.held == 0 or before >= r.running then g.touch(lane) end", "", "nobody looks behind", _LIMITS
    ),
    Mutant("if kind == 'l' then g.release(lane, item.id, nil, item.place) end", "", "a retry keeps its slot", _LIMITS),
    Mutant(_DIRECT, "not head_of(lane, r)", "passes those in turns", _LIMITS),
    Mutant(_DIRECT, "turning == 0", "overtakes its own lane", _LIMITS + _ORDER),
    Mutant(_TOKENS, "and room() > 0 then", "no token", _RATES),
    Mutant(_TOKENS, "and ready_at(whole, cost, 0) <= now then", "no slot of the type", _LIMITS),
    Mutant("and ready_at(r, cost, 0) <= now\n", "\n", "no token of the lane", _RATES),
    Mutant("while turning > 0 and room() > 0 do", "while turning > 0 do", "above the type's limit", _LIMITS),
    Mutant(_TIMER, "", "the type's rate is passed", _RATES),
    Mutant(_TIMER, "if token > now then return end", "no timer for the type", _RATES),
    Mutant("if free and ready > now then timer = ready end", "", "no timer for a lane", _RATES),
    Mutant("math.ceil(at / 1000)", "math.floor(at / 1000)", "a timer too early", _RATES),
    Mutant("spend(r, cost)", "", "a token is not spent", _RATES),
    Mutant("spend(whole, cost)", "", "a token of the type is not spent", _RATES),
    Mutant("math.min(cost, of.burst) * of.interval, now", "of.interval, now", "all cost one", _RATES),
    Mutant("r.f = score + cost / r.weight", "r.f = score + cost", "weights are void", _FAIR),
    Mutant("whole.v = math.max(whole.v, score)", "", "virtual time stands", _FAIR),
    Mutant(_NEWCOMER, "whole.n", "newcomers do not move on", _FAIR),
    Mutant(_NEWCOMER + ", whole.v + 1", _NEWCOMER + ", whole.v + 9", "no cap", _FAIR),
    Mutant(
        "score and whole.fair and score > whole.v then r.f = score", "false then r.f = score",
        "a place in turns is forgotten", _FAIR,
    ),
    Mutant("if r.ordered then r.running = math.min(r.running, 1) end", "", "two of an ordered lane", _ORDER),
    Mutant(_HALT, "", "no halt", ("order, halt and rate",)),
    Mutant(
        "if r.halt ~= id then return end", "", "another letter opens", ("order, halt and rate",),
        changing=True,
    ),
    Mutant(
        "if not hold and due and not g.record(lane).ordered then", "if not hold and due then",
        "an ordered retry loses its place", _ORDER,
    ),
    Mutant("r.till = math.max(r.till, hold * 1000)", "r.till = r.till", "nothing is held", _LIMITS),
    Mutant(
        "number and tonumber(number) > 0 and tonumber(number) or draw()", "draw()", "a new number", _LIMITS
    ),
    Mutant(
        "if id then redis.call('HSET', index, id, place) end\n    charge", "charge", "lost by its id", _LIMITS
    ),
    Mutant("redis.call('HSET', index, id, 'k' .. key .. lane)", "", "a parked task has no place", _LIMITS),
    Mutant(
        _FOUND + "\n    g.touch(found.lane)", _FOUND, "nobody looks behind a cancelled one", _LIMITS + _RATES
    ),
    Mutant("whole.v, whole.n = 0, 0 end", "whole.v = 0 end", "residue of an idle type", _FAIR),
    Mutant(
        "elseif r.held == 0 then\n      r.f = 0", "elseif r.held == 0 then\n      r.f = r.f", "residue", _FAIR
    ),
    Mutant("string.format('%.17g', value)", "tostring(value)", "digits are lost", _FAIR + _RATES),
]  # fmt: skip
_ALL = os.environ.get("STREAMQ_MUTANTS") == "all"


def mutated(mutant: Mutant) -> Change:
    return lambda _, text: text.replace(mutant.old, mutant.new)


def test_every_mutant_fits_a_script() -> None:
    texts = [scripts.load(name).text for name in scripts.names()]
    assert [one.why for one in MUTANTS if not any(one.old in text for text in texts)] == []


@pytest.mark.parametrize("mutant", MUTANTS if _ALL else MUTANTS[::8], ids=lambda one: one.why)
def test_a_mutant_is_noticed(transport: SyncTransport, mutant: Mutant) -> None:
    with changed(own_clock, mutated(mutant)):
        for seed in range(1, 7):
            for profile in mutant.profiles:
                transport.run(command("FLUSHALL"))
                if noticed(transport, Rules(**vars(PROFILES[profile])), seed, mutant.changing):
                    return
    raise AssertionError(f"nobody noticed: {mutant.why}")


def noticed(transport: SyncTransport, rules: Rules, seed: int, changing: bool) -> bool:
    try:
        fuzz = Fuzz(transport, rules, seed)
        fuzz.choices = (*STEPS, "letter", "cancel", *(("change", "letter", "letter") if changing else ()))
        for _ in range(250 if changing else 150):
            fuzz.step()
        fuzz.drain(300)
    except Exception:
        return True
    return False
