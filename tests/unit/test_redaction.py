"""What is shown of payloads, and how values are written for people."""

from __future__ import annotations

import base64
import html
import json
import time
import unicodedata
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.control.formatting import size
from streamq.dashboard.redaction import HIDDEN, Redaction
from streamq.dashboard.render import NOTHING, clock, count, duration, millis, moment, points, rate, share


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
    found = Redaction(("password", "*token*")).value(raw)
    if want is None and raw is not None:
        assert HIDDEN in repr(found)  # deeper than anybody looks
    else:
        assert found == want


def test_hidden_is_hidden() -> None:
    hidden = Redaction(hide=True)
    assert hidden.value(b'{"a":1}') == hidden.text(b'{"a":1}') == hidden.short(b'{"a":1}') == HIDDEN
    assert not hidden.complete
    assert Redaction().complete


def test_what_is_no_json_is_shown_as_it_is() -> None:
    assert Redaction().value(b"\xff{") == "\\xff{"
    assert Redaction().short(b'{"a":"' + b"x" * 500 + b'"}', 20) == '{"a":"xxxxxxxxxxxxxx…'


def test_values_for_people() -> None:
    assert [duration(x) for x in (None, 0.0, 0.00042, 0.25, 4.25, 190, 18_120, 273_600)] == [
        "\N{EN DASH}", "0 ms", "0.4 ms", "250 ms", "4.2 s", "3 m 10 s", "5 h 02 m", "3 d 04 h",
    ]  # fmt: skip
    assert [rate(x) for x in (0, 0.05, 0.5, 12.4, None)] == ["0", "0.05", "0.5", "12.4", NOTHING]
    assert [millis(x) for x in (None, 0.0002, 0.013, 14.0)] == [NOTHING, "0.2", "13", "14,000"]
    assert [clock(x) for x in (None, 0.4, 76, 259_200)] == [NOTHING, "0:00:00", "0:01:16", "72:00:00"]
    assert [share(x) for x in (None, 1.0, 0.9999, 0)] == ["\N{EN DASH}", "100 %", "99.9 %", "0 %"]
    assert [size(x) for x in (5, 2048, 3 << 20, 5 << 40)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 TiB"]
    assert (count(1234567), count(None)) == ("1,234,567", "\N{EN DASH}")
    assert moment(1_700_000_000_000) == "2023-11-14 22:13:20 UTC"
    assert moment(10**20) == str(10**20)
    assert points([0, 1], 10, 4) == "0.0,3.0 10.0,1.0"


PAYLOAD = (
    b'{"password":"hunter2-secret","to":"ada","x":"hunter2",'
    b'"card":{"pin":42,"token":["4111-1111-1111-1111"],"more":[null,true]}}'
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("no user hunter2-secret here", f"no user {HIDDEN} here"),
        ("hunter2-secret", HIDDEN),
        ("to ada", "to ada"),
        ("line 142, code 42", f"line 142, code {HIDDEN}"),
        ("the pin is wrong", f"the {HIDDEN} is wrong"),  # a name below a field that is not shown
        ("card '4111-1111-1111-1111'", f"card '{HIDDEN}'"),
        ("input_value='4111-1111...111-1111'", f"input_value='{HIDDEN}'"),
        ("4111 1111 1111 1111", HIDDEN),
        ("HUNTER2_SECRET", HIDDEN),
        ("cut: hunter2-se", f"cut: {HIDDEN}"),
        ("cut: hu…", f"cut: {HIDDEN}…"),
        ("hunter2 is not hut", f"{HIDDEN} is not hut"),
        ("aHVudGVyMi1zZWNyZXQ= 68756e746572322d736563726574 terces-2retnuh", f"{HIDDEN}= {HIDDEN} {HIDDEN}"),
        ("", ""),
    ],
)
def test_values_of_redacted_fields_are_masked_in_errors(text: str, want: str) -> None:
    assert Redaction(("password", "card")).error_text(text, PAYLOAD) == want


def test_values_are_found_as_they_are_written_in_text() -> None:
    value = 'a"\n\\\u00fc-secret'
    payload = orjson.dumps({"password": value})
    for written in (repr(value), orjson.dumps(value).decode(), value):
        found = Redaction(("password",)).error_text(f"ValueError: {written}!", payload)
        assert "secret" not in found
        assert found.startswith("ValueError: ")


SECRET = "ge\u0301heim-\u00fc\U0001f511-Schl\u00fcssel"  # noqa: S105


@pytest.mark.parametrize(
    "written",
    [
        SECRET, SECRET.upper(), repr(SECRET), ascii(SECRET), repr(SECRET.encode()), quote(SECRET),
        orjson.dumps(SECRET).decode(), json.dumps(SECRET), json.dumps(json.dumps(SECRET)),
        html.escape(SECRET), repr(repr(ascii(SECRET))),
        "".join(f"&#{ord(c)};" for c in SECRET), "".join(f"&#x{ord(c):x};" for c in SECRET),
        unicodedata.normalize("NFC", SECRET), unicodedata.normalize("NFD", SECRET), " ".join(SECRET),
        SECRET.encode("unicode_escape").decode(), SECRET.encode("ascii", "namereplace").decode(),
        SECRET[:-3] + "…", "…" + SECRET[3:], SECRET[:9], SECRET + SECRET, "x" + SECRET[2:] + SECRET[:7],
        SECRET.encode().hex(), base64.b64encode(b"user:" + SECRET.encode()).decode(),
    ],
)  # fmt: skip
def test_a_value_is_found_however_it_is_written(written: str) -> None:
    found = Redaction(("password",)).error_text(
        f"ValueError: {written} is bad", orjson.dumps({"password": SECRET})
    )
    assert HIDDEN in found
    readable = unicodedata.normalize("NFKD", found).casefold()
    for part in ("heim", "schl", "ssel", "ussel"):
        assert part not in readable, found
    assert found.startswith("ValueError: ")
    assert found.endswith(" is bad")


@pytest.mark.parametrize(
    "secret", ["!?", "\U0001f511\U0001f512", "a", "42", -7, 1.5, True, '"', "\\", "\n\t\x00", "\u00e9"]
)
def test_short_and_odd_values_are_masked_too(secret: object) -> None:
    privacy, payload = Redaction(("pin",)), orjson.dumps({"pin": secret})
    for written in (str(secret), f"({secret})", f"pin={secret},"):
        found = privacy.error_text(f"bad {written} here", payload)
        assert found != f"bad {written} here" or not str(secret).strip(), written


def test_overlapping_values_are_masked_whole() -> None:
    payload = orjson.dumps({"a": {"secret": ["abcdef-ghijkl", "ghijkl-mnopqr"]}})
    assert Redaction(("secret",)).error_text("x abcdef-ghijkl-mnopqr y", payload) == f"x {HIDDEN} y"


def test_a_result_repeats_nothing() -> None:
    privacy = Redaction(("password",))
    payload = orjson.dumps({"password": "hunter2-secret", "to": "ada", "note": "it is hunter2"})
    assert privacy.value(payload) == {"password": HIDDEN, "to": "ada", "note": f"it is {HIDDEN}"}
    result = orjson.dumps({"said": "hunter2-secret", "hunter2": [1, True, None], "password": 3, "to": "ada"})
    known = privacy.result(result, payload)
    assert known == {"said": HIDDEN, HIDDEN: [1, True, None], "password": HIDDEN, "to": "ada"}
    for raw in (result, b'"hunter2-secret"', b"4111", b'["hunter2-secret"]'):
        assert privacy.result(raw, None) == HIDDEN
        assert privacy.short_result(raw, None) == privacy.result_text(raw, None) == HIDDEN
    assert [privacy.result(raw, None) for raw in (b"null", b"true", None)] == [None, True, None]
    assert Redaction().result(result, None) == orjson.loads(result)
    assert Redaction(hide=True).result(result, payload) == HIDDEN


def test_a_page_of_large_errors_is_masked_quickly() -> None:
    payload = orjson.dumps({"password": "".join(f"{n:05x}" for n in range(12_000)), "to": "ada"})
    text = "Traceback\n" + "".join(f"  line {n} of some code\\\\\\\\\n" for n in range(3_000))
    began = time.process_time()
    for _ in range(10):
        assert HIDDEN in Redaction(("password",)).error_text(text, payload)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("payload", [None, b"", b'{"password":"hun', b"[" * 200 + b"]" * 200])
def test_an_error_whose_payload_nobody_knows_is_hidden(payload: bytes | None) -> None:
    assert Redaction(("password",)).error_text("hunter2", payload) == HIDDEN


def test_a_huge_value_hides_the_whole_text() -> None:
    payload = orjson.dumps({"password": "x" * 100_000})
    assert Redaction(("password",)).error_text("what", payload) == HIDDEN


TRACEBACK = (
    'Traceback (most recent call last):\n  File "/app/shop.py", line 7, in charge\n    pay(card)\n'
    "E: hunter2-secret\n"
)


def test_of_a_hidden_error_type_and_place_are_shown() -> None:
    told = {"attempt": 1, "error": "E", "message": "hunter2-secret", "traceback": TRACEBACK, "odd": "hunter2"}
    place = "app/shop.py:7 in charge"
    frame = {"file": "/srv/app/shop.py", "line": 7, "function": "charge", "text": "pay()"}
    assert Redaction().failure(told, PAYLOAD) == {**told, "place": place}
    hidden = {"attempt": 1, "error": "E", "message": HIDDEN, "traceback": HIDDEN}
    assert Redaction(hide=True).failure({**told, "frame": frame}, PAYLOAD) == {**hidden, "place": place}
    assert Redaction(hide=True).failure(told, PAYLOAD) == {**hidden, "place": ""}  # it is read from a text
    masked = Redaction(("password",)).failure(told, PAYLOAD)
    assert masked["traceback"] == TRACEBACK.replace("hunter2-secret", HIDDEN)
    assert masked["place"] == place


@given(st.text(max_size=60), st.text(min_size=1, max_size=40), st.text(max_size=60))
def test_no_value_is_left_in_any_text(before: str, secret: str, after: str) -> None:
    payload = orjson.dumps({"password": secret})
    found = Redaction(("password",)).error_text(f"{before} {secret} {after}", payload)
    if len(secret) >= 4 and HIDDEN not in secret:
        assert secret not in found
