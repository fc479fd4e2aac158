"""The protocol against real servers, in any order of steps.

Quick by default. `STREAMQ_MODEL_EXAMPLES=5000 pytest tests/model/test_machine.py` looks for longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from streamq.embedded import EmbeddedServer
from tests.model.machine import Protocol
from tests.variant import changed, own_clock

EXAMPLES = int(os.environ.get("STREAMQ_MODEL_EXAMPLES", "20"))
# To look for the shortest way to a failure takes minutes: the limit of a test would hide what was found.
PHASES = list(Phase) if "STREAMQ_MODEL_EXAMPLES" in os.environ else [Phase.reuse, Phase.generate]


def check(url: str) -> None:
    machine = type("ProtocolOnServer", (Protocol,), {"url": url})
    with changed(own_clock):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=50, deadline=None, print_blob=True, phases=PHASES,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )  # fmt: skip


@pytest.mark.timeout(120 + EXAMPLES)
def test_the_protocol_on_valkey(valkey: EmbeddedServer) -> None:
    check(valkey.url)


@pytest.mark.timeout(120 + EXAMPLES)
def test_the_protocol_on_redis(redis_server: EmbeddedServer) -> None:
    check(redis_server.url)
