"""What makes two failures one fault, and what a histogram answers."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from streamq import envelope
from streamq.fingerprint import fingerprint, frame_in_text, frame_of, of_stack, raised_at, stored_frame
from streamq.histogram import Latency, bucket, percentile

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
    found = frame_in_text(OWN)
    assert found is not None
    assert str(found) == "shop/mail.py:3 in send"
    assert found.text == "client.post(to)"


def test_a_moved_line_is_the_same_fault_and_another_place_is_not() -> None:
    found, other = frame_in_text(OWN), frame_in_text(OWN.replace("client.post(to)", "other(to)"))
    assert fingerprint("OSError", found) == fingerprint(
        "OSError", frame_in_text(OWN.replace("line 3", "line 30"))
    )
    assert fingerprint("OSError", found) != fingerprint("ValueError", found)
    assert fingerprint("OSError", found) != fingerprint("OSError", other)


def test_without_a_traceback_the_error_alone_tells() -> None:
    assert frame_of({"traceback": ""}) is None
    assert fingerprint("AttemptTimeout", None) == fingerprint("AttemptTimeout", None)
    assert len(fingerprint("\ud800", None)) == 12


def test_a_real_traceback_is_read() -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - whatever it says
        int("x")
    found = frame_in_text("".join(traceback.format_exception(raised.value)))
    assert found is not None
    assert found.function == "test_a_real_traceback_is_read"
    assert raised_at(raised.value.__traceback__) == found


FORGED = '\n  File "/srv/shop/forged.py", line 1, in forged\n    forged()\n'


@pytest.mark.parametrize(
    "message", [FORGED, "x" * 4000 + FORGED, "Traceback (most recent call last):" + FORGED]
)
@pytest.mark.parametrize("chained", [False, True])
def test_a_message_makes_no_place(message: str, chained: bool) -> None:
    try:
        try:
            raise KeyError(message)  # noqa: TRY301 - it is the cause
        except KeyError as cause:
            raise ValueError(message) from (cause if chained else None)
    except ValueError as error:
        found = raised_at(error.__traceback__)
        text = "".join(traceback.format_exception(error))
    assert found is not None
    assert found.function == "test_a_message_makes_no_place"
    for kept in (text, text[-4096:], *(text[-n:] for n in range(1, len(text), 7))):
        old = frame_of({"traceback": kept})
        assert old is None or old.function == "test_a_message_makes_no_place"


def test_a_stored_frame_comes_first_and_a_damaged_one_counts_as_none() -> None:
    frame = {"file": "/srv/a.py", "line": 3, "function": "go", "text": "go()"}
    listed = envelope.failures(
        envelope.add_failure(
            b"", attempt=1, at_ms=5, worker="w", error="E", message="", traceback=OWN, frame=frame
        )
    )
    assert str(frame_of(listed[0])) == "srv/a.py:3 in go"
    damaged: list[Any] = [
        None,
        5,
        [],
        {},
        {**frame, "line": "3"},
        {**frame, "line": -1},
        {**frame, "text": None},
    ]
    for wrong in damaged:
        assert stored_frame({"frame": wrong}) is None
        assert str(frame_of({"frame": wrong, "traceback": OWN})) == "shop/mail.py:3 in send"


def test_a_stack_of_our_own_tells_where_an_attempt_stood() -> None:
    found = of_stack("Where it stood:\n" + OWN.partition("\n")[2].rpartition("OSError")[0])
    assert str(found) == "shop/mail.py:3 in send"


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
