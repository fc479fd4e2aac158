"""The guards of lanes, each to be taken out by itself: gate, rates, shares, order.

A machine of their own must notice: the fuzz of `tests.lua.test_lane_fuzz`, with its twin of one type's lanes.
That one knows every row, turn and time to the microsecond, under nine sets of rules, and stays small since it
knows neither locks nor schedules nor lost groups. In `machine` each step would have to be foretold for each
of these sets as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.test_lane_fuzz import PROFILES, STEPS, Fuzz
from tests.model.mutant import fails, flush
from tests.variant import changed, own_clock


@dataclass(frozen=True, slots=True)
class LaneMutant:
    """A piece of text and what stands there instead, in every script that has it, or in one. profiles: the
    sets of rules that it is tried with. changing: they change meanwhile. deadly: many tasks die. seeds: how
    many runs it takes at most."""

    old: str
    new: str
    fault: str
    profiles: tuple[str, ...]
    changing: bool = False
    script: str = ""
    deadly: bool = False
    seeds: int = 6

    def __str__(self) -> str:
        return f"{self.script or 'lanes'}: {self.fault}"

    def concerns(self, name: str, text: str) -> bool:
        """Whether this script is another one with it."""
        return self.old in text and self.script in ("", name)

    def change(self, name: str, text: str) -> str:
        return text.replace(self.old, self.new) if self.concerns(name, text) else text


_RATES = ("rates", "rates of lanes", "order, halt and rate")
_FAIR = ("fair with everything", "fair", "order and fair")
_LIMITS = ("limits", "rates", "fair with everything")
_ORDER = ("order, halt and rate", "order", "order and fair")
_HALTING = ("order, halt and rate",)
_ONLY_HALT = ("halt",)
_MORE: Final = PROFILES | {"halt": Rules(order=True, halt=True)}
"""Where no rate keeps a task from a lane that is shut: few would ask at the right moment."""
_DIRECT = "turning == 0 and not (rows_there and head_of(lane, r))"
_TOKENS = "and (not whole.interval or ready_at(whole, cost, 0) <= now) and (endless or room() > 0) then"
_BACK = "r.held = before > 0 and before - 1 or 0"
_TIMER = "if token > now then return set_timer('', token) end"
_NEWCOMER = "whole.newest + 1 / whole.window"
_HALT = "if how == 'd' and whole.halt and r.ordered and r.halt == '' then r.halt = id end"
_FOUND = "record(found.lane).head = nil"
_L = LaneMutant
LANE_MUTANTS: Final = [
    _L("r.held = r.held + 1", "r.held = r.held", "a slot is not taken", _LIMITS),
    _L(_BACK, "r.held = before", "a slot is not given back", _LIMITS),
    _L(_BACK, "r.held = math.max(0, before - 2)", "given back twice", _LIMITS),
    _L(
        "if r.held == 0 or before >= r.running then g.touch(lane) end", "", "nobody looks behind", _LIMITS
    ),
    _L(
        "if kind == 'l' then g.release(lane, item.id, nil, item.place) end",
        "", "a retry keeps its slot", _LIMITS,
    ),
    _L(_DIRECT, "not (rows_there and head_of(lane, r))", "passes those in turns", _LIMITS),
    _L(_DIRECT, "turning == 0", "overtakes its own lane", _LIMITS + _ORDER),
    _L(_TOKENS, "and (endless or room() > 0) then", "no token", _RATES),
    _L(_TOKENS, "and (not whole.interval or ready_at(whole, cost, 0) <= now) then",
       "no slot of the type", _LIMITS),
    _L("and ready_at(r, cost, 0) <= now\n", "\n", "no token of the lane", _RATES),
    _L("while turning > 0 and room() > 0 do", "while turning > 0 do", "above the type's limit", _LIMITS),
    _L(_TIMER, "", "the type's rate is passed", _RATES),
    _L(_TIMER, "if token > now then return end", "no timer for the type", _RATES),
    _L("if free and ready > now then timer = ready end", "", "no timer for a lane", _RATES),
    _L("math.ceil(at / 1000)", "math.floor(at / 1000)", "a timer too early", _RATES),
    _L("spend(r, cost)", "", "a token is not spent", _RATES),
    _L("spend(whole, cost)", "", "a token of the type is not spent", _RATES),
    _L("math.min(cost, of.burst) * of.interval, now", "of.interval, now", "all cost one", _RATES),
    _L("r.finish = score + cost / r.weight", "r.finish = score + cost", "weights are void", _FAIR),
    _L("whole.virtual = math.max(whole.virtual, score)", "", "virtual time stands", _FAIR),
    _L(_NEWCOMER, "whole.newest", "newcomers do not move on", _FAIR),
    _L(_NEWCOMER + ", whole.virtual + 1", _NEWCOMER + ", whole.virtual + 9", "no cap", _FAIR),
    _L(
        "score and whole.fair and score > whole.virtual then r.finish = score", "false then r.finish = score",
        "a place in turns is forgotten", _FAIR,
    ),
    _L("if r.ordered then r.running = math.min(r.running, 1) end", "", "two of an ordered lane", _ORDER),
    _L(_HALT, "", "no halt", ("order, halt and rate",)),
    _L(
        "if r.halt ~= id then return end", "", "another letter opens", _ONLY_HALT + _HALTING,
        changing=True, deadly=True, seeds=12,
    ),
    _L(
        "if not hold and due and not g.record(lane).ordered then", "if not hold and due then",
        "an ordered retry loses its place", _ORDER,
    ),
    _L("r.held_until = math.max(r.held_until, hold * 1000)", "r.held_until = r.held_until",
       "nothing is held", _LIMITS),
    _L(
        "number and tonumber(number) > 0 and tonumber(number) or next_number()", "next_number()",
        "a new number", _LIMITS
    ),
    _L(
        "gone_places[#gone_places + 1], gone_places[#gone_places + 2] = id, place", "place = place",
        "lost by its id", _LIMITS
    ),
    _L("new_places[count + 2] = id, place_of(digit, number, lane)", "new_places[count + 2] = 'x', 'x'",
       "a parked task has no place", _LIMITS),
    _L(
        _FOUND + "\n    g.touch(found.lane)", _FOUND, "nobody looks behind a cancelled one", _LIMITS + _RATES
    ),
    _L("whole.virtual, whole.newest = 0, 0", "whole.virtual = 0", "residue of an idle type", _FAIR),
    _L(
        "elseif r.held == 0 then\n      r.finish = 0", "elseif r.held == 0 then\n      r.finish = r.finish",
        "residue", _FAIR
    ),
    _L("string.format('%.17g', value)", "tostring(value)", "digits are lost", _FAIR + _RATES),
    # How a lane is entered, straight and from its rows.
    _L("local free = r.halt == '' and r.held < r.running", "local free = r.halt == ''",
       "no slot of the lane", _LIMITS),
    _L("local free = r.halt == '' and r.held", "local free = r.held", "past a halt", _ONLY_HALT, deadly=True),
    _L("return r.halt == '' and r.held < r.running, ready_at", "return r.held < r.running, ready_at",
       "a lane that halts goes on", _HALTING),
    _L("return r.halt == '' and r.held < r.running, ready_at", "return r.halt == '', ready_at",
       "above the limit of a lane", _LIMITS + _ORDER),
    _L(" and not (due and due > now_ms)\n", "\n", "an ordered retry runs too early", _ORDER),
    _L("if due > 0 then ready = math.max(ready, due * 1000) end", "",
       "an ordered retry is not waited for", _ORDER),
    _L("local ready = of.held_until or 0", "local ready = 0", "a lane is not held back", _LIMITS),
    _L("local function look_at_timers()\n    if started", "local function look_at_timers()\n    if true",
       "nobody looks at timers", _RATES),
    _L("gone_rows[#gone_rows + 1], r.behind = head.row, head.row", "r.behind = head.row",
       "who was admitted waits still", _LIMITS),
    _L("        update(lane, true)\n", "", "a lane has one turn for ever", _LIMITS),
    _L("      if not free or ready > now then", "      if not head then", "rules of before hold", _LIMITS,
       changing=True, seeds=25),
    _L("tonumber(digit) * 1e15 + number < head.rank then", "false then", "a new first one is not seen",
       _LIMITS),
    _L("local DIGITS = {h = '1', n = '2', l = '3'}", "local DIGITS = {h = '2', n = '2', l = '2'}",
       "no priority inside a lane", _LIMITS),
    # Rates and shares.
    _L("(math.min(cost, of.burst) - of.burst)", "(cost - of.burst)", "what costs most never goes", _RATES),
    _L("math.min(math.max(of.tat, now) + ", "math.min(of.tat + ", "an idle lane saves its rate up", _RATES),
    _L("if of.interval then of.tat = math.min(of.tat, now + of.burst * of.interval) else of.tat = 0 end", "",
       "a rate of before is waited for", _RATES, changing=True),
    _L("math.min(whole.running, whole.fair and whole.window or math.huge)", "whole.running",
       "no window", _FAIR),
    _L("    if r.finish > whole.virtual then return r.finish end\n", "",
       "who had a turn is a newcomer", _FAIR),
    _L("charge(r, cost, math.max(r.finish, whole.virtual))", "charge(r, cost, 0)",
       "who goes straight pays nothing",
       _FAIR),
    _L("math.max(whole.virtual, math.min(whole.newest", "math.max(0, math.min(whole.newest",
       "newcomers from the past",
       _FAIR),
    # Order and fences.
    _L("r.ordered = whole.order and named", "r.ordered = whole.order",
       "what has no lane is in order", _ORDER),
    _L("named and of_lanes or no_rules", "of_lanes", "what has no lane is limited", _LIMITS),
    _L("if whole.order then fields = changed(fields, {g = string.format('%.0f', next_number())}) end",
       "if whole.order then fields = changed(fields, {g = string.format('%.0f', next_number() * 0 + 1)}) end",
       "a fence stands", _ORDER),
    _L("fields[n + 1] = string.format('%.0f', redis.call('HINCRBY', counters, 'sequence', 1))",
       "redis.call('HINCRBY', counters, 'sequence', 1)", "who is taken back has the fence of before", _ORDER),
    # Who must call the gate.
    _L("release.l = lane_claim", "release.l = nil", "an end gives no slot back", _LIMITS),
    _L("if lane then lane_released(lane, id, 'c') end", "", "what completes gives no slot back", _LIMITS),
    _L("group, ARGV[m]) == 1", "group, ARGV[m]) >= 0", "what is not ours gives a slot back", _LIMITS),
    _L("\n    lane_opened(id, letter)\n", "\n", "a requeued letter shuts its lane", _HALTING,
       script="requeue"),
    _L("\n  lane_opened(id, letter)\n", "\n", "a purged letter shuts its lane", _HALTING, deadly=True,
       script="purge"),
    _L("  lane_gate().take(parked)\n", "", "a cancelled one waits still", _LIMITS, script="cancel"),
    _L("  if g.record(parked.lane).ordered then return -1 end\n", "", "an operator overtakes", _ORDER,
       script="run_now"),
    _L("    charge(r, found.cost, math.max(r.finish, whole.virtual))\n", "",
       "who is forced is not counted", _LIMITS),
    _L("park(found.lane, record(found.lane), '0',", "park(found.lane, record(found.lane), found.digit,",
       "an operator brings nobody to the front", _LIMITS),
    _L("if lane ~= '' then lane_gate().touch(lane) else lane_gate() end", "lane_gate()",
       "a raised limit is not seen", _LIMITS, script="limit"),
    _L("    if overruled then", "    if false then", "an operator's limits are void", _LIMITS),
    _L("HSET', policy, 'sweep', '')", "HGET', policy, 'sweep')", "a changed policy is not seen", _LIMITS,
       changing=True, script="register"),
    _L("then redis.call('DEL', turns) end", "then end", "places in turn mean something else", _FAIR,
       changing=True, script="register"),
    _L("cursor = lane_gate().sweep(cursor, SWEPT)", "cursor = nil", "a changed policy is not seen", _LIMITS,
       changing=True),
    _L("  return lane_due(letter, fields, id, redis.call('HGET', index, id) or id) ~= nil", "  return false",
       "who is due passes the gate", _LIMITS),
]  # fmt: skip
QUICK_LANES = LANE_MUTANTS[::12]


def noticed(url: str, mutant: LaneMutant) -> str:
    """How the fuzz fails with this mutant; '' where it does not."""
    transport = SyncTransport(Address.parse(url))
    try:
        with changed(own_clock, mutant.change):
            for seed in range(1, mutant.seeds + 1):
                for profile in mutant.profiles:
                    flush(transport)
                    if how := _fails(transport, Rules(**vars(_MORE[profile])), seed, mutant):
                        return how
    finally:
        transport.close()
    return ""


def content(url: str) -> None:
    """The fuzz is content with the scripts as they are, under every set of rules, also where these change."""
    for profile in PROFILES:
        for changing in (False, True):
            sound = LaneMutant("", "", "none", (profile,), changing, deadly=changing, seeds=1)
            assert noticed(url, sound) == "", (profile, changing)


def _fails(transport: SyncTransport, rules: Rules, seed: int, mutant: LaneMutant) -> str:
    changing, deadly = mutant.changing, mutant.deadly

    def run() -> None:
        fuzz = Fuzz(transport, rules, seed)
        fuzz.choices = (*STEPS, "letter", "cancel")
        if changing:
            fuzz.choices += ("change", "letter", "letter")
        if deadly:
            fuzz.choices += ("letter", "letter", "settle")
            fuzz.ends = ("done", "dead", "dead", "later")
        for _ in range(250 if changing else 150):
            fuzz.step()
        fuzz.drain(300)

    return fails(run)
