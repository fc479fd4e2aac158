"""What makes two failures one fault, and what a histogram answers."""

from __future__ import annotations

import traceback

import pytest

from streamq.fingerprint import fingerprint, place
from streamq.rollups import Latency, bucket, percentile

OWN = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 12, in email
    send(to)
  File "/srv/shop/mail.py", line 3, in send
    client.post(to)
  File "/srv/venv/lib/python3.11/site-packages/http/client.py", line 99, in post
    raise OSError("no")
OSError: no
"""


def test_the_place_is_the_last_frame_of_the_users_own_code() -> None:
    found = place(OWN)
    assert found is not None
    assert str(found) == "shop/mail.py:3 in send"
    assert found.text == "client.post(to)"


def test_a_moved_line_is_the_same_fault_and_another_place_is_not() -> None:
    assert fingerprint("OSError", OWN) == fingerprint("OSError", OWN.replace("line 3", "line 30"))
    assert fingerprint("OSError", OWN) != fingerprint("ValueError", OWN)
    assert fingerprint("OSError", OWN) != fingerprint("OSError", OWN.replace("client.post(to)", "other(to)"))


def test_without_a_traceback_the_error_alone_tells() -> None:
    assert place("") is None
    assert fingerprint("AttemptTimeout", "") == fingerprint("AttemptTimeout", "")
    assert len(fingerprint("\ud800", "garbage")) == 12


def test_a_real_traceback_is_read() -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - whatever it says
        int("x")
    found = place("".join(traceback.format_exception(raised.value)))
    assert found is not None
    assert found.function == "test_a_real_traceback_is_read"


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 0.25, 3.0, 7200.0])
def test_percentiles_are_right_within_a_tenth(seconds: float) -> None:
    found = percentile({bucket(seconds): 10}, 0.95)
    assert found is not None
    assert abs(found - seconds) / seconds < 0.1


def test_percentiles_of_a_mixture() -> None:
    found = Latency.of({bucket(0.001): 90, bucket(1.0): 9, bucket(60.0): 1})
    assert found.p50 is not None
    assert found.p50 < 0.002
    assert found.p95 is not None
    assert 0.8 < found.p95 < 1.2
    assert Latency.of({}) == Latency(None, None, None)
    assert bucket(0.0) == 0
