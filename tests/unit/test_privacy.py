"""What is shown of payloads, and how values are written for people."""

from __future__ import annotations

import pytest

from streamq.dashboard.privacy import HIDDEN, Privacy
from streamq.dashboard.render import count, duration, moment, points, rate, share, size


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        (b'{"password":"x","to":"ada"}', {"password": HIDDEN, "to": "ada"}),
        (b'{"a":[{"Api_Token":1}]}', {"a": [{"Api_Token": HIDDEN}]}),
        (b'{"card":{"token":{"x":1}}}', {"card": {"token": HIDDEN}}),
        (b'"password"', "password"),
        (b'{"password":"x","to":"ad', HIDDEN),
        (b"\xff\xfe", HIDDEN),
        (b"[" * 400 + b"]" * 400, None),
        (None, None),
    ],
)
def test_redaction(raw: bytes | None, want: object) -> None:
    found = Privacy(("password", "*token*")).value(raw)
    if want is None and raw is not None:
        assert HIDDEN in repr(found)  # deeper than anybody looks
    else:
        assert found == want


def test_hidden_is_hidden() -> None:
    hidden = Privacy(hide=True)
    assert hidden.value(b'{"a":1}') == hidden.text(b'{"a":1}') == hidden.short(b'{"a":1}') == HIDDEN
    assert not hidden.complete
    assert Privacy().complete


def test_what_is_no_json_is_shown_as_it_is() -> None:
    assert Privacy().value(b"\xff{") == "\\xff{"
    assert Privacy().short(b'{"a":"' + b"x" * 500 + b'"}', 20) == '{"a":"xxxxxxxxxxxxxx…'


def test_values_for_people() -> None:
    assert [duration(x) for x in (None, 0.0, 0.00042, 0.25, 4.25, 190, 18_120, 273_600)] == [
        "\N{EN DASH}", "0 ms", "420 µs", "250 ms", "4.2 s", "3 m 10 s", "5 h 02 m", "3 d 04 h",
    ]  # fmt: skip
    assert [rate(x) for x in (0, 0.05, 0.5, 12.4)] == ["0/s", "3.0/min", "0.5/s", "12/s"]
    assert [share(x) for x in (None, 1.0, 0.9999, 0)] == ["\N{EN DASH}", "100 %", "99.9 %", "0 %"]
    assert [size(x) for x in (5, 2048, 3 << 20, 5 << 40)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 TiB"]
    assert (count(1234567), count(None)) == ("1,234,567", "\N{EN DASH}")
    assert moment(1_700_000_000_000) == "2023-11-14 22:13:20 UTC"
    assert moment(10**20) == str(10**20)
    assert points([0, 1], 10, 4) == "0.0,3.0 10.0,1.0"
