"""Bytes that nobody should have written, for every place that streamq reads back."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FACTOR = float(os.environ.get("STREAMQ_FUZZ", "0.1"))
"""Which part of the examples: few in the normal suite, `STREAMQ_FUZZ=1` or more to look for longer."""


def thorough(examples: int) -> settings:
    """Settings for a fuzz test of about so many examples. They are not shrunk: one that fails has waited
    for something in vain, and would do so hundreds of times."""
    return settings(
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        max_examples=max(1, round(examples * FACTOR)),
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


ODD = [
    b"", b"0", b"-1", b"1", b"1.5", b" 7 ", b"+3", b"1e400", b"-1e400", b"nan", b"inf", b"0x10", b"1_000",
    b"9" * 20, b"9" * 5000, "²".encode(), b"\x00", b"\xff\xfe", b"x", b"h", b"n", b"s", b"zz", b"null",
    b"true", b"[]", b"{}", b"[1]", b'"x"', b'{"x":1}', b'{"x":"1"}', b'{"x":1,"y":2}', b"[" * 3000, b'{"x":',
    b'{"x":1e999}', b'{"x":' + b"9" * 400 + b"}", b'{"timeout":-1}', b'{"timeout":1e300}',
    b'{"timeout":true}', b'{"retention":1e300}', b'{"retention":-5}', b'{"max_attempts":0}',
    b'{"max_attempts":1.5}', b'{"max_attempts":1e300}', b"n5-0", b"n1-1-1", b"d5-7", b"d99999999999999-1",
    b"n99999999999999999999999-1", b"s0-0", b"n1700000000000-0", b"h\n1-1", b"email:0:n1-0", b"\r\n$5\r\n",
    b"x" * 100_000,
]  # fmt: skip

odd_bytes = st.one_of(st.sampled_from(ODD), st.binary(max_size=40), st.integers().map(lambda n: b"%d" % n))

KNOWN = [b"p", b"i", b"a", b"l", b"q", b"e", b"x", b"m", b"f", b"o", b"t", b"v"]

one_field = st.tuples(st.one_of(st.sampled_from(KNOWN), st.binary(max_size=10)), odd_bytes)
good_payload = st.just((b"p", b'{"x":1}'))

entries = st.one_of(
    st.lists(one_field, min_size=1, max_size=6),
    st.tuples(good_payload, st.lists(one_field, max_size=5)).map(lambda both: [both[0], *both[1]]),
    st.integers(500, 6000).map(lambda n: [(b"p", b'{"x":1}'), *((b"%d" % m, b"") for m in range(n))]),
)
"""Fields of a stream entry: the names that streamq knows with values it does not, and others."""

packed = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\xc0", b"\x90", b"\x80", b"\x91\x01", b"\x92\xa1p\x01", b"\x92\xa1i\xa1z", b"\x91\x91\x91\x91\xc0",
         b"\x94\xc0\xc0\xc0\xc0", b"\x94\xa1x\xa1n\xa11\xc0", b"\x94\xa1x\xa1n\xa11\x91\xa1p",
         b"\x94\xa1x\xa1n\xa15\x92\x01\x02", b"\x94\xa1x\xa1z\xa15\x92\xa1p\xa2{}", b"\xdd\xff\xff\xff\xff",
         b"\xdc\x27\x10" + b"\xa1x" * 10_000, b"\x91" * 500 + b"\xc0", b"\xc1"]
    ),
)  # fmt: skip
"""What should be MessagePack of streamq's own shape."""

rows = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.tuples(
        st.sampled_from([b"000000000007", b"999999999999", b"inf         ", b"nan         ", b"0x0000000010",
                         b"-00000000001", b"           1", b"abcdefghijkl"]),
        st.sampled_from([b"h", b"n", b"l", b"s", b"z", b""]),
        packed,
    ).map(b"".join),
)  # fmt: skip
"""Members of a schedule."""

scores = st.sampled_from(["1", "2", "-inf", "-5", "1.5", "1e-300"])
