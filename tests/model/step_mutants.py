"""The guards of steps, suspension, signals and follow-ups, each to be taken out by itself.

Their own machine, `step_machine`, must notice each one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from streamq.errors import StreamQError
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.model.step_machine import StepFuzz, flush
from tests.variant import changed, without

SEEDS: Final = 30
"""Runs that it takes at most until a mutant is noticed."""


class StepMutant(NamedTuple):
    """A piece of a script's text, what stands there instead, and what goes wrong."""

    script: str
    old: str
    new: str
    fault: str

    def __str__(self) -> str:
        return f"{self.script}: {self.fault}"


_S = StepMutant
_HELD = "return not held.err and #held > 0 and #redis.call('XRANGE', stream, entry, entry) > 0"
STEP_MUTANTS: Final = [
    _S("checkpoint", "if not held_by(place) then return {'lost'} end", "", "a stale worker stores a memo"),
    _S("checkpoint", "if kept and again ~= '1' then return {'kept', kept} end", "", "a memo is overwritten"),
    _S("checkpoint", "if kept and again ~= '1'", "if kept", "a cursor stands"),
    _S("checkpoint", _HELD, "return true", "who holds nothing stores"),
    _S("checkpoint", "#value - #(before or '')", "#value", "the bytes of a memo count twice"),
    _S("checkpoint", "(before and '' or '\\0' .. name)", "'\\0' .. name", "a memo is named twice"),
    _S("checkpoint", "string.format('%.0f', bytes) .. names, at, value)",
       "string.format('%.0f', bytes), at, value)",
       "a memo outlives its task"),
    _S("take_signal", "if not held_by(place) then return {'lost'} end", "", "a stale worker takes a signal"),
    _S("take_signal", "if kind == '+' then return {'taken', string.sub(kept, 2)} end", "",
       "a wait gets another signal in its next attempt"),
    _S("take_signal", "if kind == '!' then return {'late'} end", "", "what came too late comes after all"),
    _S("take_signal", "  mail_drop(signal)\n", "", "a signal is taken twice"),
    _S("take_signal", "local value = mail_first(signal)", "local value = nil",
       "a signal before its wait is lost"),
    _S("take_signal", "if first == last then return redis.call('HDEL', mail, signal) end",
       "if true then return redis.call('HDEL', mail, signal) end", "only one signal of a name is kept"),
    _S("take_signal", "first + 1, last)", "first, last)", "the next signal of a name is not found"),
    _S("take_signal", "or over and '!' or", "or", "a timeout is not remembered"),
    _S("take_signal", "if over then return {'late'} end", "", "nobody is told of a timeout"),
    _S("signal", "if redis.call('ZSCORE', dead, id) then return 'dead' end", "",
       "a dead letter gets a signal"),
    _S("signal", "if not task_lives(id) then return 'unknown' end", "", "an ended task gets a signal"),
    _S("signal", "if string.sub(before, n, n + 15) == key then return 'stored' end", "",
       "a repeated call gives two"),
    _S("signal", "string.sub(before .. key, -16 * 32)", "''", "a repeated call gives two signals"),
    _S("signal", "redis.call('PEXPIRE', mail, life_ms)\n", "", "a mailbox has no end"),
    _S("signal", "  resume(memo)\n", "", "who is suspended sleeps on"),
    _S("signal", "if fields and field(fields, 's') == memo then", "if fields then",
       "who waits for something else is woken"),
    _S("signal", "'^[?~]%d*$') then return name end", "'^[~]%d*$') then return name end",
       "a signal before the suspension is not seen"),
    _S("signal", "'^[?~]%d*$') then return name end", "'.') then return name end", "a wait gets two signals"),
    _S("signal", "last = (last or 0) + 1", "last = 1", "a signal takes the place of another"),
    _S("signal", "first or last, last)", "last, last)", "the last signal comes first"),
    _S("signal", "  redis.call('ZREM', schedule, row)\n", "", "who is woken is scheduled as well"),
    _S("signal", "redis.call('HSET', index, id, letter .. redis.call('XADD', stream, '*', unpack(fields)))",
       "redis.call('XADD', stream, '*', unpack(fields))", "who is woken cannot be found"),
    _S("settle_rich", "if not until_ then return nil end\n", "if not until_ then return due end\n",
       "a signal before the suspension is slept through"),
    _S("settle_rich", "  redis.call('HSET', steps, at, '~' .. until_)\n",
       "", "who is suspended does not say so"),
    _S("settle_rich", "{i = item.id, l = false, q = false, s = memo}", "{i = item.id, l = false, q = false}",
       "nobody knows what it waits for"),
    _S("settle_rich", "{i = item.id, l = false, q = false, s = memo}", "{l = false, q = false, s = memo}",
       "who is suspended gets another id"),
    _S("settle_rich", "if item.steps then item.fields = memo_claimed(item.fields, item.id) end", "",
       "memos outlive their task"),
    _S("settle_rich", "  if how ~= 'd' then memo_drop(id) end\n", "  memo_drop(id)\n",
       "a dead letter loses its memos"),
    _S("settle_rich", "  if how ~= 'd' then memo_drop(id) end\n", "", "memos outlive their task"),
    _S("settle_rich", "if waiting and due then park(item.priority, item.id, waiting, due) end", "",
       "who sleeps is lost"),
    _S("settle_rich", "if waiting and not due then append(item.priority, item.id, waiting) end", "",
       "whose signal has come is lost"),
    _S("settle_rich", "if quiet == 'c' and besides[n].tasks then", "if besides[n].tasks then",
       "an attempt that failed has follow-ups"),
    _S("settle_rich", "follow_noted(besides[n].tasks)", "", "a completed task has no follow-ups"),
    _S("settle_rich", "  if follow_known(task) then return end\n", "",
       "two follow-ups of one idempotency key"),
    _S("settle_rich", "    follow_scheduled(task, due)\n", "", "a follow-up that is due later is lost"),
    _S("settle_rich", "    redis.call('HSET', of.index, task.id, task.letter .. entry)\n", "",
       "a follow-up cannot be found"),
    _S("settle_rich", "redis.call('HINCRBY', of.counters, 'accepted', of.accepted_now)", "",
       "follow-ups are not counted"),
    _S("settle_rich", "{'i', task.id, 'e', stamp}", "{'e', stamp}",
       "a follow-up has another id than was told"),
    _S("settle_rich", "if last[1] == sequence then", "if false then",
       "a repeated settlement has follow-ups again"),
    _S("reclaim", "fields = memo_claimed(fields, id)", "fields = fields", "memos of a lost task outlive it"),
    _S("cancel", "  if how ~= 'd' then memo_drop(id) end\n", "", "memos of a cancelled task outlive it"),
    _S("purge", "  memo_drop(id)\n", "", "memos of a purged letter outlive it"),
    _S("requeue", "    if fresh == '1' then memo_drop(id) end\n", "", "a fresh task has its memos still"),
    _S("requeue", "if fresh == '1' then", "if true then", "a requeued task begins anew"),
    _S("run_now", "if string.sub(told, 1, 1) == '~' then return -2 end\n", "",
       "who waits for a signal is made ready"),
    _S("run_now", "== awake then redis.call('HSET', steps, at, awake) end",
       "== '' then redis.call('HSET', steps, at, '') end",
       "who was woken goes back to sleep"),
]  # fmt: skip
QUICK_STEPS: Final = STEP_MUTANTS[::9]


def noticed(url: str, mutant: StepMutant | None) -> str:
    """How the machine fails with this mutant; '' where it does not. None: with the scripts as they are."""
    transport = SyncTransport(Address.parse(url))
    changes = () if mutant is None else (without(*mutant[:3]),)
    try:
        with changed(*changes):
            for seed in range(SEEDS):
                flush(transport)
                if how := _fails(transport, seed):
                    return how
    finally:
        transport.close()
    return ""


def _fails(transport: SyncTransport, seed: int) -> str:
    try:
        StepFuzz(transport, seed).run()
    except (AssertionError, StreamQError, KeyError, ValueError, IndexError, pytest.fail.Exception) as error:
        return repr(error) or "fails"
    return ""
