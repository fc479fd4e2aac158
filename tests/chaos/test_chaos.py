"""Short runs of the chaos proof on every topology, and proof that it can fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.conductor import Run, Settings, conduct
from tests.chaos.plan import TOPOLOGIES, Fault, Topology, draw, kinds
from tests.chaos.servers import ROLES

SEED: Final = int(os.environ.get("STREAMQ_CHAOS_SEED", "41001"))
"""The plan of the suite; the variable takes another, and a failure prints what repeats it."""

FEW: Final = ("failover", "worker_killed", "clients_killed", "scripts_flushed", "group_terminated")


async def survives(settings: Settings, folder: Path) -> Run:
    run = await conduct(settings, folder)
    account = run.account
    again = f"--topology {settings.topology} --seconds {settings.seconds:g} --seed {settings.seed}"
    assert run.findings == [], f"{again}\n" + "\n".join(map(str, run.findings[:20]))
    assert account.accepted == account.completed + account.dead + account.cancelled + account.expired
    assert (account.lost, account.settled_twice) == (0, 0)
    assert account.completed > 50
    assert sum(account.faults.values()) >= 5
    return run


async def test_a_single_server(tmp_path: Path) -> None:
    """The promise: an accepted task is never lost while Redis keeps what it acknowledged."""
    await survives(Settings(SEED, 5.0), tmp_path)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")
async def test_a_sentinel_set(tmp_path: Path) -> None:
    """The promise: an accepted task is never lost while Redis keeps what it acknowledged."""
    run = await survives(Settings(SEED, 5.0, "sentinel", FEW), tmp_path)
    assert run.account.faults["failover"] >= 1


@pytest.mark.long
async def test_a_cluster(tmp_path: Path) -> None:
    """The promise: an accepted task is never lost while Redis keeps what it acknowledged."""
    run = await survives(Settings(SEED, 5.0, "cluster", FEW), tmp_path)
    assert run.account.faults["failover"] >= 1


PROVOKING: Final = (
    *(Fault(0.1, "worker_stopped", target, 0.6) for target in (0, 2)),
    *(Fault(0.1 + n / 4, "replies_dropped", ROLES.index("producers"), 1.0) for n in range(12)),
)
"""A worker of each group sleeps past its lease with all its slots in use, and others take that over
meanwhile; producers are left without answers to calls that were carried out."""
FENCE: Final = Settings(1, 0, faults=PROVOKING, conducts=("slow",), sabotage="fence,dedupe", rate=20, drain=4)
PROMISES: Final = Settings(
    1, 3, only=("reset",), conducts=("slow", "fail1"), sabotage="slot,order,lock,tick", drain=2
)
SHARES: Final = Settings(1, 7, only=("reset",), conducts=("slow",), sabotage="share,stop", rate=120, drain=8)
FLOWS: Final = Settings(1, 8, only=("reset",), sabotage="undo,brood,timer", drain=10)
GATHERS: Final = Settings(1, 8, only=("reset",), sabotage="gather", drain=10)
RACES: Final = Settings(1, 6, only=("reset",), sabotage="race", drain=5)
NESTS: Final = Settings(1, 6, only=("reset",), sabotage="inner,onward", drain=8)
FORGET: Final = Settings(1, 2, only=("reset",), sabotage="forget", rate=60, drain=4)


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        pytest.param(FENCE, {"settled twice", "enqueued twice"}, marks=pytest.mark.long),
        pytest.param(FORGET, {"lost"}, marks=pytest.mark.long),
        pytest.param(
            PROMISES, {"above a limit", "overtaken", "two of a key", "run twice"}, marks=pytest.mark.long
        ),
        pytest.param(FLOWS, {"undo too early", "node too early", "race not decided"}, marks=pytest.mark.long),
        pytest.param(GATHERS, {"wrong end"}, marks=pytest.mark.long),
        pytest.param(RACES, {"flow stands"}, marks=pytest.mark.long),
        pytest.param(NESTS, {"lost", "new runs"}, marks=pytest.mark.long),
        pytest.param(SHARES, {"unfair share", "run not cancelled"}, marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "sabotage", ""),
)
async def test_a_broken_build_is_found_out(tmp_path: Path, settings: Settings, rules: set[str]) -> None:
    """The negative control: with guards taken out, the same harness must report what they guard against."""
    found = set[str]()
    for number in range(3):  # what is provoked needs two processes to meet, which a busy machine can prevent
        folder = tmp_path / str(number)
        folder.mkdir()
        run = await conduct(settings, folder)
        found |= {finding.rule for finding in run.findings}
        if found >= rules:
            return
    pytest.fail(f"only {found} were found")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_seed_names_one_plan_in_which_every_kind_of_fault_comes(topology: Topology) -> None:
    plan = draw(SEED, 60, topology)
    assert plan == draw(SEED, 60, topology)
    assert plan != draw(SEED + 1, 60, topology)
    assert {fault.kind for fault in plan} == set(kinds(topology))
    assert [fault.at for fault in plan] == sorted(fault.at for fault in plan)
