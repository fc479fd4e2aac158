"""What may not be asked of lanes, rates and costs: each is refused with what failed and what to do."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from streamq import InvalidOption, Lane, StartRate, StreamQ
from streamq.app.task_type import TaskType
from tests.cli.conftest import Capture, run

RATES: list[object] = [
    "5/fortnight",
    "nan/s",
    "inf/s",
    "5/inf",
    "5/nan",
    "5/0s",
    "-5/s",
    "5.5/s",
    "5/",
    "5/ ",
    "/s",
    "5/-1s",
    "\u0665/s",
    "1000001/s",
    "5/0.0001s",
    "1/101 years",
    5,
    math.nan,
    math.inf,
    True,
    b"5/s",
    (5, 1),
    [],
]


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_what_is_no_rate(rate: Any) -> None:
    app = StreamQ("shop", "redis://nowhere")
    says = r"write a rate as '5/s' or '100/1m' \(1 to 1,000,000 starts in a time of at least 1 ms\)"
    for make in (lambda: Lane("a", rate=rate), lambda: app.task(start_rate=rate)):
        with pytest.raises(InvalidOption, match=says):
            make()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((0, 1), "StartRate: count=0: must be a whole number of at least 1"),
        ((-5, 1), "count=-5"),
        (("5", 1), "count='5'"),
        ((math.nan, 1), "count=nan"),
        ((True, 1), "count=True"),
        ((1.0, 1), "count=1.0"),
        ((1_000_001, 1), "count=1000001: must be a whole number of at most 1,000,000"),
        ((5, 0), "StartRate: period=0: must be at least 0.001 s"),
        ((5, math.nan), "period=nan"),
        ((5, math.inf), "period=inf"),
        ((5, "fortnight"), "period='fortnight': not a duration"),
        ((5, 1, 0), "StartRate: burst=0: must be a whole number of at least 1"),
        ((5, 1, 2.5), "burst=2.5"),
        ((5, 1, True), "burst=True"),
    ],
)
def test_what_is_no_start_rate(given: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        StartRate(*given)


def test_the_period_of_a_start_rate_is_any_duration() -> None:
    for given in ("1m", 60, timedelta(minutes=1)):
        assert StartRate(5, given).interval_us == 12e6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fair": "no"}, "Lane: fair='no': must be True or False"),
        ({"order": 1}, "Lane: order=1: must be True"),
        ({"fair": True, "weight": -1}, "weight=-1: must be a number of at least 0.001"),
        ({"fair": True, "weight": math.nan}, "weight=nan"),
        ({"fair": True, "weight": math.inf}, "weight=inf"),
        ({"fair": True, "weight": "2"}, "weight='2'"),
        ({"rate": "5/s", "burst": -1}, "burst=-1"),
        ({"rate": "5/s", "burst": True}, "burst=True"),
        ({"rate": "5/s", "burst": 1.5}, "burst=1.5"),
        ({"running": 1.0}, "running=1.0"),
        ({"running": True}, "running=True"),
        ({"running": "2"}, "running='2'"),
        ({"order": True, "running": 0}, "running=0 and order=True exclude each other: one at a time"),
    ],
)
def test_more_that_a_lane_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        Lane("customer_id", **options)


def test_the_key_of_a_lane_is_an_argument() -> None:
    app = StreamQ("shop", "redis://nowhere")

    def email(order: dict[str, int], note: str = "") -> None: ...

    for inside in ("order.id", "order['id']", "", None, 5):
        if inside != "":
            with pytest.raises(InvalidOption, match="name an argument of the handler, as Lane"):
                Lane(inside)  # type: ignore[arg-type]
    for other in ("id", "kwargs", "class"):
        with pytest.raises(
            InvalidOption, match=f"Lane.'{other}'. names no argument of task type 'email': it has"
        ):
            app.task(lane=Lane(other))(email)


class Shop(NamedTuple):
    """email has lanes with a rate, step ordered lanes and a burst of the type, counted a rate of the type."""

    app: StreamQ
    email: TaskType[..., None, object]
    step: TaskType[..., None, object]
    counted: TaskType[..., None, object]


@pytest.fixture
def shop(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("STREAMQ_URL", str(app.address))

    @app.task(lane=Lane("to", rate="5/s", burst=2))
    async def email(to: str) -> None: ...

    @app.task(lane=Lane("order", order=True), start_rate=StartRate(1000, 1, 3))
    async def step(order: int | None, n: int = 0) -> None: ...

    @app.task(lane=Lane("to"), start_rate="5/s")
    async def counted(to: str) -> None: ...

    return Shop(app, email, step, counted)


def test_a_value_that_is_none_is_no_lane(shop: Shop) -> None:
    """So tasks without an order do not wait for one another."""
    assert [shop.step.enqueue(None).status() for _ in range(2)] == ["ready"] * 2
    assert [shop.step.enqueue(1).status() for _ in range(2)] == ["ready", "parked"]
    assert [one.lane for one in shop.app.inspector.lanes("step")] == ["1"]


@pytest.mark.parametrize("cost", [0, -1, 1.0, True, "3", math.nan, math.inf, 1_000_001, 10**400], ids=repr)
def test_what_is_no_cost(shop: Shop, cost: Any) -> None:
    says = "cost=.*: must be a whole number of at (least 1|most 1,000,000)"
    with pytest.raises(InvalidOption, match=says):
        shop.email.options(cost=cost)
    with pytest.raises(InvalidOption, match=says):
        shop.app.send("email", {"to": "ada"}, lane="ada", cost=cost)


def test_a_cost_above_a_burst_is_refused_and_a_rate_of_the_type_counts_starts(shop: Shop) -> None:
    with pytest.raises(InvalidOption, match="cost=3: no task of 'email' can cost more than its lane's burst"):
        shop.email.options(cost=3).enqueue("ada")
    with pytest.raises(
        InvalidOption, match="cost=4: no .* than the burst of its start_rate, which is 3: raise"
    ):
        shop.step.options(cost=4).enqueue(1)
    assert shop.counted.options(cost=100).enqueue("ada").status() == "ready"


def test_a_sender_by_name_does_not_overtake_in_an_ordered_lane(shop: Shop) -> None:
    """It does not know that the lanes are ordered: its priority does not count in them."""
    shop.step.enqueue(1)
    waiting = [
        shop.step.enqueue(1, n=1).id,
        StreamQ("shop", str(shop.app.address)).send("step", {"order": 1, "n": 2}, priority="high").id,
        shop.step.enqueue(1, n=3).id,
    ]
    assert [row.id for row in shop.app.inspector.tasks("parked", "step").rows] == waiting


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"running": -1}, "running=-1: must be a whole number of at least 0"),
        ({"running": True}, "running=True"),
        ({"running": math.nan}, "running=nan"),
        ({"rate": "fast"}, "rate='fast': write a rate as '5/s'"),
        ({"rate": "5/s", "burst": 0}, "burst=0: must be a whole number of at least 1"),
        ({"rate": "5/s", "burst": "x"}, "burst='x'"),
        ({"rate": "5/s", "burst": 1.5}, "burst=1.5"),
        ({"burst": 3}, "burst needs a rate, as rate='5/s', burst=10"),
        ({"weight": 0}, "weight=0: must be a number of at least 0.001"),
        ({"weight": math.nan}, "weight=nan"),
    ],
)
def test_what_is_no_limit(shop: Shop, told: dict[str, Any], says: str) -> None:
    for lane in ("ada", None):
        with pytest.raises(InvalidOption, match=says):
            shop.app.admin.limit("email", lane=lane, **told)


def test_what_names_no_lane(shop: Shop) -> None:
    admin = shop.app.admin
    with pytest.raises(InvalidOption, match="weight=2: is a lane's share: name the lane, as lane='acme'"):
        admin.limit("email", weight=2)
    wrong: list[tuple[Any, str]] = [
        (
            "x" * 201,
            "lane='xx.*: a lane's name has at most 200 bytes and no zero byte, this one has 201; hash",
        ),
        ("a\0b", "no zero byte"),
        ("\ud800", "which UTF-8 cannot encode. Pass valid text"),
        (5, "lane=5: must be text"),
    ]
    for lane, says in wrong:
        for act in (admin.pause_lane, admin.resume_lane, admin.purge_lane, shop.app.inspector.lanes):
            with pytest.raises(InvalidOption, match=says):
                act("email", lane)
        with pytest.raises(InvalidOption, match=says):
            admin.limit("email", lane=lane, running=1)
        with pytest.raises(InvalidOption, match=says):
            shop.app.send("email", {"to": "ada"}, lane=lane)


LIMIT = ("lanes", "email", "limit", "--lane", "ada")
LONG = "x" * 201


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*LIMIT, "--running", "-1"), "running=-1: must be a whole number of at least 0"),
        ((*LIMIT, "--running", "1.5"), "argument --running: invalid int value: '1.5'"),
        ((*LIMIT, "--rate", "5/fortnight"), "write a rate as '5/s'"),
        ((*LIMIT, "--rate", "5/s", "--burst", "0"), "burst=0: must be a whole number of at least 1"),
        ((*LIMIT, "--burst", "3"), "burst needs a rate"),
        ((*LIMIT, "--weight", "nan"), "weight=nan: must be a number"),
        (("lanes", "email", "limit", "--weight", "2"), "weight=2.0: is a lane's share: name the lane"),
        (("lanes", "email", "limit", "--lane", LONG, "--running", "1"), "at most 200 bytes"),
        (("lanes", "email", "--lane", LONG), "at most 200 bytes"),
        (("lanes", "email", "--running", "5"), "--running sets a limit: streamq lanes email limit --running"),
        (("lanes", "email", "pause", "--lane", "ada", "--weight", "5"), "--weight sets a limit"),
        (("enqueue", "email", '{"to":"ada"}', "--lane", LONG), "at most 200 bytes"),
        (
            ("enqueue", "email", '{"to":"ada"}', "--lane", "ada", "--cost", "0"),
            "cost=0: must be a whole number",
        ),
        (
            ("enqueue", "email", '{"to":"ada"}', "--lane", "ada", "--cost", "1.5"),
            "--cost: invalid int value: '1.5'",
        ),
        (
            ("enqueue", "email", '{"to":"ada"}', "--debounce", "5s", "--max-wait", "1s"),
            "max_wait=1 s is below debounce=5 s",
        ),
    ],
)
def test_what_the_command_line_refuses(
    shop: Shop, capsys: Capture, words: tuple[str, ...], says: str
) -> None:
    shop.email.enqueue("ada")
    err = ""
    try:
        code, _, err = run(capsys, *words)
        assert code == 2
    except SystemExit as stopped:
        assert stopped.code == 2
        err = capsys.readouterr().err
    assert says in err
