"""What all tests of the dashboard need."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient_lists(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list ends early where it takes long; a busy machine must not decide what a test sees."""
    if request.node.get_closest_marker("long") is None:
        monkeypatch.setattr("streamq.control.task_list.LOOK_FOR", 10.0)
