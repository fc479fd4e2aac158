"""Pure parts: envelope, retry arithmetic, states, keys, the demo's account."""

from __future__ import annotations

from asyncio import CancelledError
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_exponential, wait_fixed

from streamq import envelope, keys, retry, stored_result
from streamq.app.bound_task import new_task
from streamq.demo.account import draw_up
from streamq.errors import DecodeError, RateLimited, RedisUnavailable, Retry
from streamq.model.counts import COUNTERS
from streamq.model.delivery import Delivery, Entry, Success
from streamq.model.task import STATES, NewTask
from streamq.options.task import TaskOptions
from streamq.transport import server
from streamq.transport.budget import OUT_OF_TIME
from streamq.transport.faults import more_specific, translate


@given(st.lists(st.binary(max_size=20), max_size=12), st.sampled_from("hnls"))
def test_hostile_entries_never_raise_anything_but_decode_error(raw: list[bytes], letter: str) -> None:
    try:
        envelope.decode("email", 0, Entry(letter, "5-0", tuple(raw)))
    except DecodeError as error:
        assert error.reason in ("foreign", "version", "undecodable")


@given(st.sampled_from([b"a", b"l", b"x", b"e", b"m", b"v", b"i", b"f"]), st.binary(max_size=30))
def test_hostile_values_of_known_fields(name: bytes, value: bytes) -> None:
    try:
        delivery = envelope.decode("email", 0, Entry("n", "5-0", (b"p", b"{}", name, value)))
    except DecodeError:
        return
    assert delivery.payload == b"{}"


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ((b"v", b"2"), "envelope:2"), ((b"z", b"zstd"), "payload:zstd"),
        ((b"z", b"json,zstd"), "payload:zstd"), ((b"N", b"steps,batch"), "steps"),
        ((b"Unique", b"x"), "field:Unique"), ((b"Z", b"x", b"A", b"y"), "field:A"),
        ((b"v", b"3", b"N", b"batch", b"later", b"x"), "envelope:3"),
    ],
)  # fmt: skip
def test_what_a_newer_release_asks_for(fields: tuple[bytes, ...], needs: str) -> None:
    with pytest.raises(envelope.TooNew) as caught:
        envelope.decode("email", 0, Entry("n", "5-0", (b"p", b"{}", b"k", b"3", *fields)))
    assert (caught.value.needs, caught.value.times) == (needs, 3)


@pytest.mark.parametrize(
    "fields",
    [(b"v", b"1"), (b"z", b"json"), (b"N", b"envelope:1"), (b"later", b"x", b"\xffodd", b""), (b"k", b"7")],
)
def test_what_a_newer_release_only_says_is_ignored(fields: tuple[bytes, ...]) -> None:
    found = envelope.decode("email", 0, Entry("n", "5-0", (b"p", b"{}", b"a", b"1", *fields)))
    assert (found.payload, found.attempt) == (b"{}", 2)


@given(st.binary(max_size=200))
def test_a_damaged_history_is_an_empty_one(raw: bytes) -> None:
    assert isinstance(envelope.failures(raw), list)


def test_a_history_is_bounded_and_keeps_the_first_and_the_latest() -> None:
    raw = b""
    for n in range(1, 50):
        raw = envelope.add_failure(
            raw,
            attempt=n,
            at_ms=n,
            worker="w",
            error="E",
            message="m" * 5000 + "\ud800",
            traceback="t" * 9000,
        )
    listed = envelope.failures(raw)
    assert [f["attempt"] for f in listed] == [1, *range(41, 50)]
    assert len(raw) < 60_000


def test_the_default_backoff_grows_with_jitter_and_is_capped() -> None:
    error = ValueError()
    for attempt in (1, 2, 5, 20, 100):
        delays = {retry.backoff(None, attempt, error) for _ in range(50)}
        assert len(delays) > 10
        assert all(0 <= delay <= min(300, 2 ** (attempt - 1)) for delay in delays)


@pytest.mark.parametrize(
    ("wait", "attempt", "want"),
    [
        (wait_fixed(3), 1, 3.0),
        (wait_exponential(multiplier=2), 3, 8.0),
        (lambda _: 1e12, 1, retry.LONGEST_BACKOFF),
        (lambda _: timedelta(minutes=1), 1, 60.0),
        (lambda _: Decimal("2.5"), 1, 2.5),
        (lambda _: "90s", 1, 90.0),
        (lambda _: 0, 1, 0.0),
    ],
)
def test_backoff_is_what_the_wait_object_says_within_bounds(wait: object, attempt: int, want: float) -> None:
    assert retry.backoff(wait, attempt, ValueError()) == want


ONLY_OS = TaskOptions(backoff=wait_fixed(1), retry_on=(OSError,))
NO_VALUE = TaskOptions(backoff=wait_fixed(1), give_up_on=(ValueError,))
GROUPS = TaskOptions(backoff=wait_fixed(1), retry_on=(ExceptionGroup,))
NO_GROUPS = TaskOptions(backoff=wait_fixed(1), give_up_on=(BaseExceptionGroup,))


@pytest.mark.parametrize(
    ("policy", "attempt", "error", "want"),
    [
        (TaskOptions(backoff=wait_fixed(1)), 1, ValueError(), retry.Again(1.0)),
        (TaskOptions(), 5, ValueError(), retry.GiveUp("attempts")),
        (TaskOptions(retry_on=(OSError,)), 1, ValueError(), retry.GiveUp("gave_up")),
        (TaskOptions(give_up_on=(ValueError,)), 1, ValueError(), retry.GiveUp("gave_up")),
        (TaskOptions(retry_on=(OSError,)), 1, Retry(after="2m"), retry.Again(120.0)),
        (TaskOptions(), 5, Retry(after=1), retry.GiveUp("attempts")),
        (TaskOptions(backoff=wait_fixed(1)), 1, SystemExit(), retry.Again(1.0)),
        (ONLY_OS, 1, ExceptionGroup("g", [OSError()]), retry.Again(1.0)),
        (ONLY_OS, 1, ExceptionGroup("g", [ExceptionGroup("h", [OSError()]), OSError()]), retry.Again(1.0)),
        (ONLY_OS, 1, ExceptionGroup("g", [OSError(), ValueError()]), retry.GiveUp("gave_up")),
        (ONLY_OS, 1, BaseExceptionGroup("g", [CancelledError(), OSError()]), retry.Again(1.0)),
        (ONLY_OS, 1, BaseExceptionGroup("g", [CancelledError(), ValueError()]), retry.GiveUp("gave_up")),
        (NO_VALUE, 1, ExceptionGroup("g", [OSError(), ValueError()]), retry.GiveUp("gave_up")),
        (NO_VALUE, 1, ExceptionGroup("g", [Retry(after=3), ValueError()]), retry.GiveUp("gave_up")),
        (NO_VALUE, 1, ExceptionGroup("g", [Retry(after=3), KeyError()]), retry.Again(3.0)),
        (ONLY_OS, 1, ExceptionGroup("g", [Retry(after="3s"), Retry(after=7), Retry()]), retry.Again(7.0)),
        (ONLY_OS, 1, ExceptionGroup("g", [Retry()]), retry.Again(1.0)),
        (ONLY_OS, 5, ExceptionGroup("g", [Retry(after=3)]), retry.GiveUp("attempts")),
        (GROUPS, 1, ExceptionGroup("g", [ValueError()]), retry.Again(1.0)),
        (GROUPS, 1, ValueError(), retry.GiveUp("gave_up")),
        (NO_GROUPS, 1, ExceptionGroup("g", [ValueError()]), retry.GiveUp("gave_up")),
        (NO_GROUPS, 1, ValueError(), retry.Again(1.0)),
    ],
)
def test_decisions(policy: TaskOptions, attempt: int, error: BaseException, want: object) -> None:
    assert retry.decide(policy, policy.max_attempts, attempt, error) == want


class Unwritable:
    def __float__(self) -> float:
        raise SystemExit

    def __repr__(self) -> str:
        raise ValueError


NO_WAITS = [
    float("nan"), float("inf"), -float("inf"), -1, -0.001, None, True, "soon", "-5s", b"5", [], object(),
    timedelta(days=-1), Decimal("NaN"), Decimal("sNaN"), 1j, 10**400, Unwritable(),
]  # fmt: skip


@pytest.mark.parametrize("wait", NO_WAITS, ids=lambda wait: type(wait).__name__)
def test_a_wait_that_is_no_duration_is_replaced_and_told(wait: Any) -> None:
    """NaN left the task running for ever, infinity scheduled it for ever, others made dead letters."""
    found = retry.decide(TaskOptions(backoff=lambda _: wait), 5, 1, ValueError())
    assert isinstance(found, retry.Again)
    assert 0 <= found.delay <= 1
    assert found.instead_of
    if wait is not None:
        policy = TaskOptions(backoff=wait_fixed(3))
        asked = retry.decide(policy, 5, 1, ExceptionGroup("g", [Retry(after=wait)]))
        assert isinstance(asked, retry.Again)
        assert asked.delay == 3
        assert asked.instead_of.startswith("Retry(after=")


@pytest.mark.parametrize("after", [*NO_WAITS, 1e308, timedelta.max], ids=lambda one: type(one).__name__)
def test_a_rate_limit_with_no_duration_waits_for_the_default(after: Any) -> None:
    found = retry.decide(TaskOptions(), 5, 1, RateLimited(after=after))
    assert isinstance(found, retry.Wait)
    assert found.delay <= 1


def test_a_backoff_that_raises_is_replaced_and_told() -> None:
    def broken(_: object) -> float:
        raise SystemExit

    found = retry.decide(TaskOptions(backoff=broken), 5, 1, ValueError())
    assert isinstance(found, retry.Again)
    assert found.instead_of == "the backoff raised SystemExit"
    assert retry.decide(TaskOptions(backoff=broken), 1, 1, ValueError()) == retry.GiveUp("attempts")


def test_states_lead_to_states() -> None:
    for followers in STATES.values():
        assert set(followers) <= set(STATES)
    assert "accepted" in COUNTERS


def test_keys_of_a_shard_share_one_slot() -> None:
    t, s = keys.type_keys("shop", 3, "email"), keys.shard_keys("shop", 3)
    every = [
        *t.streams,
        t.schedule,
        t.index,
        t.dead,
        t.writer("w"),
        t.results("n1-0"),
        t.results("d5-9"),
        s.types,
        s.wake,
    ]
    assert {key.partition("{")[2].partition("}")[0] for key in every} == {"shop:3"}


@pytest.mark.parametrize(
    ("info", "good"),
    [
        (b"redis_version:7.0.15\r\n", True),
        (b"redis_version:6.2.14\r\n", False),
        (b"redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n", True),
        (b"redis_version:7.2.4\r\nvalkey_version:7.1.0\r\n", False),
        (b"redis_version:8.0-rc1\r\n", True),
        (b"nonsense\xff", True),
    ],
)
def test_server_versions(info: bytes, good: bool) -> None:
    try:
        server.check_version(server.parse_info(info), "x")
    except Exception:
        assert not good
    else:
        assert good


def test_what_is_worth_another_try() -> None:
    from redis import exceptions as lib

    from streamq.errors import RedisUnavailable, ServerError

    for text in (
        "LOADING x",
        "BUSY x",
        "READONLY x",
        "MASTERDOWN x",
        "MISCONF x",
        "CLUSTERDOWN x",
        "TRYAGAIN x",
    ):
        assert isinstance(translate(lib.ResponseError(text), "x"), RedisUnavailable)
    assert not isinstance(translate(lib.ResponseError("WRONGTYPE x"), "x"), RedisUnavailable)
    assert isinstance(translate(lib.ResponseError("WRONGTYPE x"), "x"), ServerError)


@pytest.mark.parametrize(
    ("states", "counters", "lost", "twice", "right"),
    [
        ({"a": "completed", "b": "completed"}, {"completed": 2}, 0, 0, True),
        ({"a": "completed", "b": "ready"}, {"completed": 1}, 1, 0, False),
        ({"a": "completed", "b": "unknown"}, {"completed": 1}, 1, 0, False),
        ({"a": "completed", "b": "completed"}, {"completed": 3}, 0, 1, False),
        ({"a": "completed", "b": "dead"}, {"completed": 1, "dead": 1}, 0, 0, True),
    ],
)
def test_the_demos_account_notices(
    states: dict[str, object], counters: dict[str, int], lost: int, twice: int, right: bool
) -> None:
    events = [{"event": "accepted", "task": task, "at": 1.0} for task in states]
    events += [{"event": "done", "task": task, "at": 2.0} for task in states]
    account = draw_up(events, states, counters, 1.0)  # type: ignore[arg-type]
    assert (account.lost, account.settled_twice, account.right) == (lost, twice, right)


LONG = 2**32 - 1


def delivered(local: str, place: str, attempt: int = 1) -> Delivery:
    return Delivery("email", 0, place, local, b"{}", attempt)


@pytest.mark.parametrize(
    ("delivery", "started_ms", "run_ms", "want"),
    [
        (delivered("n1000-0", "n1000-0"), 1250, 40, Success(1, 1290, 250, 40, "a1b2c3")),
        (delivered("n1000-0", "n9000-7", 3), 9250, 40, Success(3, 9290, 250, 40, "a1b2c3")),
        (delivered("d1000-4", "n999-0"), 900, 0, Success(1, 999, 0, 0, "a1b2c3")),  # the clocks differ
        (delivered("n0-1", "n0-1", 999), 2**33, 2**33, Success(255, 2**33 - 2, LONG, LONG, "a1b2c3")),
    ],
)
@pytest.mark.parametrize("result", [b"", b'"\\u001e"', b"[1]"])
def test_a_kept_result_tells_of_its_attempt(
    delivery: Delivery, started_ms: int, run_ms: int, want: Success, result: bytes
) -> None:
    kept = stored_result.pack_result(
        result, delivery, stored_result.worker_mark("host-77-a1b2c3"), started_ms, run_ms
    )
    assert stored_result.unpack_result(delivery.local, kept) == (result, want)
    assert len(kept) - len(result) == (13 if delivery.local == delivery.place else 21)


@given(st.text(max_size=20), st.binary(max_size=60))
def test_any_stored_result_can_be_opened(local: str, stored: bytes) -> None:
    result, success = stored_result.unpack_result(local, stored)
    assert stored.startswith(result)
    assert success is None or b"\x1e" in stored


def test_a_result_of_an_older_release_is_one() -> None:
    assert stored_result.unpack_result("n1-0", b"") == (b"", None)
    assert stored_result.unpack_result("n1-0", b'{"a":1}') == (b'{"a":1}', None)
    assert stored_result.worker_mark("odd") == stored_result.worker_mark("not-hexade") == bytes(3)


def test_what_is_made_without_its_constructor_is_what_that_would_make() -> None:
    """The fast paths spell out every field: one that is added must be added there too."""
    fields = [b"p", b"{}"]
    assert envelope.decode("email", 0, Entry("n", "1-0", fields)) == Delivery(
        "email", 0, "n1-0", "n1-0", b"{}"
    )
    assert new_task(TaskOptions(), None, b"{}") == NewTask(b"{}")


def test_an_error_always_says_why() -> None:
    """Also if the time was over before the first try: there is no earlier error to tell."""
    late = RedisUnavailable(f"redis://here: {OUT_OF_TIME}")
    refused = RedisUnavailable("redis://here: connection refused")
    assert more_specific(RedisUnavailable(""), late) is late
    assert more_specific(refused, late) is refused
    assert more_specific(late, refused) is refused
