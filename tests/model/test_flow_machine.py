"""Flows against their twins."""

from __future__ import annotations

import pytest

from streamq.transport.sync_transport import SyncTransport
from tests.model.flow_kinds_machine import KindFuzz
from tests.model.flow_machine import FlowFuzz
from tests.model.mutant import flush
from tests.model.nest_machine import NestFuzz


@pytest.mark.parametrize("seed", range(12))
def test_the_server_does_what_the_twin_foretells(transport: SyncTransport, seed: int) -> None:
    FlowFuzz(transport, seed).run()


@pytest.mark.parametrize("seed", [*range(6), 92, 167, 174, 197])
def test_every_kind_of_node_does_what_the_twin_foretells(transport: SyncTransport, seed: int) -> None:
    KindFuzz(transport, seed).run()


@pytest.mark.parametrize("seed", range(4))
def test_flows_that_run_for_tasks_do_what_the_twin_foretells(transport: SyncTransport, seed: int) -> None:
    NestFuzz(transport, seed).run()


@pytest.mark.long
def test_flows_that_run_for_tasks_in_many_runs(transport: SyncTransport) -> None:
    for seed in range(1_000, 1_200):
        flush(transport)
        NestFuzz(transport, seed).run(200)


@pytest.mark.long
def test_every_kind_of_node_in_many_runs(transport: SyncTransport) -> None:
    for seed in range(1_000, 1_300):
        flush(transport)
        KindFuzz(transport, seed).run(200)
