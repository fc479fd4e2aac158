"""How a flow goes on in few calls: what ended and who runs next in one step, and rows that nobody can work
off do not hold up those behind them."""

from __future__ import annotations

import orjson
import pytest

from streamq.calls import flows as flow_calls
from streamq.calls.call import Call
from streamq.calls.flows import Ready
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.flow_keeper import PAGE, FlowKeeper
from streamq.daemon.loop import Faults
from streamq.errors import ServerError
from streamq.flow import Ask, Flow, drive
from streamq.flows.advancing import Guess, Guesses, advance
from streamq.flows.keeping import cancel_released
from streamq.stepper import Stepper
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from tests.lua.shard import Shard
from tests.variant import changed, without

FLOW = "1-000000000001"


def started(shard: Shard, waits: list[list[int]], flow: str = FLOW, types: str = "") -> None:
    """Start a flow of nodes of type `email`; of each the nodes that it waits for."""
    number = len(waits)
    record: dict[str, str | bytes | int] = {
        "name": "f", "static": number, "todo": " ".join(str(n) for n in range(number) if not waits[n]),
    }  # fmt: skip
    for n, parents in enumerate(waits):
        record[f"n{n}"] = orjson.dumps({"m": str(n), "t": types or "email", "l": "n", "a": parents})
        children = [str(m) for m, others in enumerate(waits) if n in others]
        if children:
            record[f"d{n}"] = " ".join(children)
    items = [flow_calls.Item(n, ("n", b"{}", "", "", "")) for n in range(number)]
    shard.run(flow_calls.build_part(shard.s, flow, "0", record, items, running=False))
    shard.run(flow_calls.commit(shard.s, flow, "", "", number))


def states(shard: Shard, flow: str = FLOW) -> str:
    return shard.run(flow_calls.states(shard.s, flow))


def end(shard: Shard, node: int, how: str = "c", flow: str = FLOW, at: int = 1) -> None:
    shard.command("ZADD", shard.s.inbox, at, f"{flow} {node} {how}")


def calls_of(shard: Shard, flow: Flow[str]) -> tuple[list[str], str]:
    """Carry out a flow of steps. Return the scripts that it called, and its result."""
    steps, called = Stepper(flow), list[str]()
    while steps.step is not None:
        assert isinstance(steps.step, Ask)
        call: Call[object] = steps.step.call
        assert call.script is not None
        called.append(call.script.name)
        steps.send(shard.run(call))
    return called, steps.result


def test_what_ended_and_who_runs_next_are_one_call(shard: Shard) -> None:
    started(shard, [[], [0], [1]])
    guess = Guess("email", "0")
    called, state = calls_of(shard, advance(shard.s, FLOW, guess=guess))
    assert (called, state, states(shard)) == (["flow_step"], "running", "rww")
    for node, want in ((0, "crw"), (1, "ccr"), (2, "ccc")):
        end(shard, node)
        called, state = calls_of(shard, advance(shard.s, FLOW, [f"{node} c"], guess=guess))
        assert (called, states(shard)) == (["flow_step"], want)
    assert state == "completed"
    assert len(shard.fetch()) == 3
    assert shard.command("ZCARD", shard.s.inbox) == 0


def test_a_repeated_step_changes_nothing(shard: Shard) -> None:
    started(shard, [[], [0]])
    for _ in range(3):
        shard.run(flow_calls.step(shard.t, shard.s, FLOW, "0", ()))
    assert (states(shard), len(shard.fetch())) == ("rw", 1)
    record = shard.run(flow_calls.record(shard.s, FLOW, ["waiting", "released", "ready", "done"]))
    assert record == [b"1", b"1", b"0", b"0"]


def test_a_wrong_guess_costs_a_call(shard: Shard) -> None:
    started(shard, [[], []], types="other")
    found = shard.run(flow_calls.step(shard.t, shard.s, FLOW, "0", ()))
    assert found.ready == [Ready(0, "other", -1, False), Ready(1, "other", -1, False)]
    assert (states(shard), shard.fetch()) == ("qq", [])
    guesses = Guesses()
    guesses.learn("email", Guess("email", "0"))
    learn = lambda seen: guesses.learn("email", seen)  # noqa: E731
    called, _ = calls_of(shard, advance(shard.s, FLOW, guess=guesses.after("email"), learn=learn))
    assert (called, states(shard)) == (["flow_step", "flow_release"], "rr")
    assert guesses.after("email") == Guess("other", "0")


def test_a_guess_at_a_damaged_type_is_given_up(shard: Shard) -> None:
    started(shard, [[]])
    shard.command("SET", "{shop:0}:broken:normal", "nonsense")
    guesses = Guesses()
    guesses.learn("email", Guess("broken", "0"))
    learn = lambda seen: guesses.learn("email", seen)  # noqa: E731
    drive(shard.transport, advance(shard.s, FLOW, guess=guesses.after("email"), learn=learn))
    assert (states(shard), guesses.after("email")) == ("r", Guess("email", "0"))


def test_a_fault_of_a_step_is_told_and_not_gone_around(shard: Shard) -> None:
    started(shard, [[]])
    broken = without("flow_step", "if not flow_open() then", "if not flow_open(nil + 1) then")
    with changed(broken), pytest.raises(ServerError, match="arithmetic"):
        drive(shard.transport, advance(shard.s, FLOW, guess=Guess("email", "0")))


@pytest.mark.parametrize("many", [250, 450])
def test_more_nodes_than_a_call_takes_all_run(shard: Shard, many: int) -> None:
    started(shard, [[] for _ in range(many)])
    for page in range(1, 3):  # `started` stores all on the first page
        shard.command("COPY", shard.s.flow_items(FLOW, "0"), shard.s.flow_items(FLOW, str(page)))
    drive(shard.transport, advance(shard.s, FLOW, guess=Guess("email", "0")))
    assert states(shard) == "r" * many
    assert len(shard.fetch(budget=1000)) == many


def test_a_cancelled_flow_finds_its_rows_behind_many_others(shard: Shard) -> None:
    started(shard, [[], []])
    drive(shard.transport, advance(shard.s, FLOW))
    for n in range(0, 10_000, 1000):
        rows = [part for m in range(n, n + 1000) for part in (1, f"7-000000000007 {m} c")]
        shard.command("ZADD", shard.s.inbox, *rows)
    shard.run(flow_calls.mark(shard.s, FLOW, "cancel"))
    assert drive(shard.transport, cancel_released(shard.s, FLOW)) == 2
    assert shard.run(flow_calls.record(shard.s, FLOW, ["state"])) == [b"cancelled"]


class Counting(AsyncTransport):
    """Counts its calls."""

    called = 0

    async def run(self, *args: object, **more: object) -> object:  # type: ignore[override]
        self.called += 1
        return await super().run(*args, **more)  # type: ignore[arg-type]


async def kept(shard: Shard, rounds: int) -> int:
    """Let a daemon look after flows. Return how many calls it took."""
    transport = Counting(shard.transport.address)
    discovery = Discovery(transport)
    discovery._types[shard.s] = []
    keeper = FlowKeeper(transport, discovery)
    try:
        for _ in range(rounds):
            keeper._keep_at = float("inf")
            await keeper.round(Faults("flows", ChoreStatus(Counters())))
    finally:
        await transport.aclose()
    return transport.called


async def test_a_daemon_asks_a_shard_once(shard: Shard) -> None:
    started(shard, [[]])
    drive(shard.transport, advance(shard.s, FLOW))
    assert await kept(shard, 3) == 3


async def test_damaged_flows_do_not_hold_up_the_others(shard: Shard) -> None:
    started(shard, [[], [0]])
    drive(shard.transport, advance(shard.s, FLOW))
    shard.command("SET", shard.s.flow("7-000000000007"), "nonsense")
    rows = [part for n in range(PAGE + 50) for part in (1, f"7-000000000007 {n} c")]
    shard.command("ZADD", shard.s.inbox, *rows)
    end(shard, 0, at=2)
    await kept(shard, 2)
    assert states(shard) == "cr"
    assert shard.command("ZCARD", shard.s.inbox) == PAGE + 50
