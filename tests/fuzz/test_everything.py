"""Whatever stands under a key: no command, page or endpoint is lost, and of a list only the damaged row.

Each key of a full queue is attacked in turn, with a value of another kind and with hostile values of the
right kind, and everything that an operator may ask is asked. `pytest -m long tests/fuzz` tries each value.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson
import pytest
from argcomplete.finders import CompletionFinder

from streamq import FlowGraph, StreamQ, TaskType
from streamq.cli import completion, main
from streamq.daemon.backlog import Backlog
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults
from streamq.dashboard import Anyone, dashboard
from streamq.embedded import EmbeddedServer
from streamq.keys import VALUES as KINDS
from streamq.keys import known_key, shard_keys
from streamq.shards import shard_of
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from tests.fuzz import store
from tests.fuzz.running import WORKER, shop
from tests.fuzz.store import NEIGHBOUR, Store
from tests.running import until, working

COUNTED = {"high", "normal", "low", "suspect", "schedule", "dead", "counters", "types"}
OF_ALL = {store.APPS, store.DAEMONS, store.BEATS}


@pytest.fixture
def here(valkey: EmbeddedServer) -> Iterator[Store]:
    from tests.conftest import command

    command(valkey.url, "FLUSHALL")
    found = Store(valkey.url)
    asyncio.run(_filled(found))
    yield found
    found.close()


async def _filled(here: Store) -> None:
    app = StreamQ("shop", here.url, shards=2)

    async def run(x: int) -> int:
        return 10 // x

    kinds = [app.task(name=name, max_attempts=1, retention=600)(run) for name in ("email", NEIGHBOUR)]
    handles: list[Any] = []
    async with working(app, WORKER):
        for kind in kinds:
            handles += [await kind.options(shard_key=str(n)).aenqueue(1) for n in range(6)]
            handles += [await kind.options(shard_key=str(n)).aenqueue(0) for n in range(6)]
            handles += [await kind.options(shard_key=str(n), delay=3600).aenqueue(1) for n in range(6)]
        ended = [one.type_stats for one in [app.inspector]]
        await until(lambda: all(ended[0](k.name).dead == 6 for k in kinds), 20)
        flows = [await _flow(app, kind).astart(key) for kind in kinds for key in _in_each_shard()]
        await until(lambda: all(flow.status() == "failed" for flow in flows), 20)
    flows += [await _flow(app, kind).astart() for kind in kinds for _ in range(2)]
    here.flows = [flow.id for flow in flows]
    await asyncio.to_thread(store.fill, here, handles)
    await app.aclose()


def _in_each_shard() -> list[str]:
    """Two keys of which one is in each shard."""
    keys = {shard_of(f"key {n}", 2): f"key {n}" for n in range(40)}
    return [keys[0], keys[1]]


def _flow(app: StreamQ, kind: TaskType[[int], int, object]) -> FlowGraph:
    """A flow with a node that completes, a map, and a node that dies."""
    wf = app.flow(kind.name)
    first = wf.add(kind.bind(1))
    wf.add(kind.bind(0), after=wf.map(kind, [1, 2, 5], after=first))
    return wf


class Looker:
    """Asks everything; collects what was not as it should be."""

    def __init__(self, here: Store) -> None:
        self.here = here
        self.faults: list[str] = []

    def all(self, attack: str, key: str) -> None:
        self._attack, self._key = attack, key
        for args in store.COMMANDS:
            for form in ((), ("--json",)):
                self._command((*args, *form))
        for id_ in self.here.ids[:3]:
            self._command(("task", "show", id_))
        for id_ in self.here.flows:
            self._command(("flow", "show", id_))
        for args, codes in store.OTHERS.items():
            self._other(args, codes)
        for verb, *options in (("pause",), ("drain",), ("stats", "--app")):
            self._completion(verb, *options)
        asyncio.run(self._pages())
        if key != store.APPS:  # a daemon knows the apps from nowhere else
            asyncio.run(self._backlog())

    def named(self, key: str) -> None:
        """Whoever looks is told which key it is."""
        known = known_key("shop", key)
        asked: list[tuple[str, ...]] = [("audit",)] if known is not None and known.kind in KINDS else []
        if known is not None and known.kind in COUNTED:
            asked += [("stats",), ("top", "--once"), ("doctor",)]
        for args in asked:
            _, out, err = store.command(self.here, args)
            if key not in out + err:
                self.fault(f"streamq {' '.join(args)}: does not name {key}: {out[-300:]}{err[-300:]}")

    def fault(self, what: str) -> None:
        self.faults.append(f"{what}\n    after {self._attack}")

    def _command(self, args: tuple[str, ...]) -> None:
        try:
            code, out, err = store.command(self.here, args)
        except pytest.fail.Exception:  # the limit of the whole test
            raise
        except BaseException as error:
            self.fault(
                f"streamq {' '.join(args)}: {type(error).__name__}: {str(error)[:200]} at {where(error)}"
            )
            return
        alone = args[:2] in (("task", "show"), ("flow", "show")) or args[0] == "apps"
        damaged = code == 1 and alone and "cannot be read" in err
        if not (code in (0, 3, 6) or damaged) or "Traceback" in err:
            self.fault(f"streamq {' '.join(args)}: {code} {err[-300:]}")
        if any(letter in out + err for letter in "\x1b\x07"):
            self.fault(f"streamq {' '.join(args)}: control characters")
        if args[0] in ("stats", "top") and NEIGHBOUR not in out:
            self.fault(f"streamq {' '.join(args)}: lost {NEIGHBOUR}: {out[:300]}")
        if args[:2] == ("flow", "list"):
            self._flows(out + err)
        if (
            args[:2] == ("task", "list")
            and args[2] in ("ready", "running", "scheduled", "dead", "completed")
            and f"{NEIGHBOUR}:" not in out
        ):
            self.fault(f"streamq {' '.join(args)}: lost {NEIGHBOUR}: {out[:300]}")
        if "--json" in args and out and code != 1:
            try:
                orjson.loads(out)
            except ValueError:
                self.fault(f"streamq {' '.join(args)}: no JSON: {out[:200]}")

    def _flows(self, told: str) -> None:
        """A flow's keys are that flow's only."""
        if self._key.endswith((":flows", ":apps")):
            return
        damaged = [id_ for id_ in self.here.flows if id_.rpartition(":")[2] in self._key]
        lost = [id_ for id_ in self.here.flows if id_ not in told and id_ not in damaged]
        if lost:
            self.fault(f"streamq flow list: lost {lost}: {told[:300]}")

    def _other(self, args: tuple[str, ...], codes: set[int]) -> None:
        name = f"streamq {' '.join(args)}"
        try:
            code, out, err = store.command(self.here, args)
        except pytest.fail.Exception:  # the limit of the whole test
            raise
        except BaseException as error:
            self.fault(f"{name}: {type(error).__name__}: {str(error)[:200]} at {where(error)}")
            return
        if code not in codes or "Traceback" in err or any(letter in out + err for letter in "\x1b\x07"):
            self.fault(f"{name}: {code} {out[-200:]} {err[-300:]}")

    def _completion(self, verb: str, *options: str) -> None:
        """Ask for what a shell would offer."""
        words = ["streamq", verb, "--url", self.here.url, "--app", "shop", *options]
        try:
            finder: Any = CompletionFinder(completion.parser_of(words))
            offered: list[str] = finder._get_completions(words, "", "", None)
        except Exception as error:
            self.fault(f"completion of {verb}: raised {error!r} at {where(error)}")
            return
        if verb == "pause" and not offered and not self._key.endswith(":types"):
            self.fault("completion of pause: offers no type")

    def tail(self) -> None:
        """Listen, and hear what is said; last of all, since it writes its own key anew."""
        channel = shard_keys("shop", 0).events
        try:
            with self.here.app.inspector.tail() as events:
                self.here.ask("PUBLISH", channel, store.said(NEIGHBOUR))
                heard = events.next(5.0)
        except Exception as error:
            self.fault(f"tail: raised {error!r} at {where(error)}")
            return
        if [event.type for event in heard] != [NEIGHBOUR]:
            self.fault(f"tail: heard {heard}")

    async def _pages(self) -> None:
        site = dashboard(self.here.app, auth=Anyone("admin", "local"), hosts=["*"])
        transport = httpx.ASGITransport(app=site)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            tasks = [f"{head}/tasks/{id_}" for id_ in self.here.ids[:8:3] for head in ("", "/api")]
            for path in (*store.PAGES, *store.API, *tasks):
                await self._page(browser, path)

    async def _page(self, browser: httpx.AsyncClient, path: str) -> None:
        try:
            answer = await browser.get(path)
        except Exception as error:
            self.fault(f"GET {path}: raised {type(error).__name__}: {str(error)[:200]} at {where(error)}")
            return
        lost = "tasks/" in path or path == "/types/email"
        if answer.status_code != 200 and not (lost and answer.status_code in (404, 409)):
            self.fault(f"GET {path}: {answer.status_code} {answer.text[-400:]}")
        elif path in ("/", "/api/overview", "/metrics") and NEIGHBOUR not in answer.text:
            self.fault(f"GET {path}: lost {NEIGHBOUR}")

    async def _backlog(self) -> None:
        transport = AsyncTransport(self.here.app.address)
        try:
            discovery, status = Discovery(transport), ChoreStatus(Counters())
            await discovery.refresh(Faults("discover", status))
            view = await Backlog(transport, discovery, status).view()
            if not any(row["type"] == NEIGHBOUR for row in view.rows or ()):
                self.fault(f"backlog: lost {NEIGHBOUR}")
        except Exception as error:
            self.fault(f"backlog: raised {error!r} at {where(error)}")
        finally:
            await transport.aclose()


def where(error: BaseException) -> str:
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/streamq/" in f.filename]
    return " < ".join(f"{f.filename.rpartition('/streamq/')[2]}:{f.lineno}" for f in reversed(frames[-3:]))


def attacked(here: Store) -> list[str]:
    """One key of each kind, of the type that is attacked, and what apps share."""
    one: dict[str, str] = {}
    for key in here.names():
        known = known_key("shop", key)
        if known is not None and known.type != NEIGHBOUR and known.shard == 0:
            one[known.kind] = key
    assert set(one) >= set(KINDS) - {"closed"}, set(KINDS) - set(one)
    return [*one.values(), *sorted(OF_ALL)]


WITHIN: Final = 14.0
"""Seconds in the suite; what was not tried by then is for `-m long`."""


def _attack(here: Store, looker: Looker, key: str, rng: random.Random, *, kind: bool) -> None:
    here.put_back()
    told = store.wrong_kind(here, key, rng) if kind else store.spoil(here, key, store.VALUES, rng)
    looker.all(told, key)
    if kind:
        looker.named(key)
    looker.tail()


def test_some_keys(here: Store) -> None:
    """Each key once, with a value of another kind or of its own, in an order by chance: STREAMQ_SEED."""
    seed = int(os.environ.get("STREAMQ_SEED", "11"))
    looker, rng, began = Looker(here), random.Random(seed), time.monotonic()
    keys = attacked(here)
    rng.shuffle(keys)
    for key in keys:
        if time.monotonic() - began < WITHIN:
            _attack(here, looker, key, rng, kind=rng.random() < 0.5)
    assert not looker.faults, f"STREAMQ_SEED={seed}\n" + "\n".join(looker.faults)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", [True, False])
def test_every_key(here: Store, kind: bool) -> None:
    looker, rng = Looker(here), random.Random(7)
    for key in attacked(here):
        _attack(here, looker, key, rng, kind=kind)
    assert not looker.faults, "\n".join(looker.faults)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_single_values(here: Store) -> None:
    """One value alone, as in a queue where nothing else is wrong: so many, by chance."""
    looker, rng = Looker(here), random.Random(int(os.environ.get("STREAMQ_SEED", random.randrange(10**6))))
    keys = attacked(here)
    for _ in range(int(os.environ.get("STREAMQ_VALUES", "500"))):
        here.put_back()
        key = rng.choice(keys)
        looker.all(store.spoil(here, key, [rng.choice(store.VALUES)], rng), key)
    assert not looker.faults, "\n".join(looker.faults)


KEYS_AT_THE_START = ("email:policy", "email:normal", "types", "workers", "heartbeats", "paused", "drains")


@pytest.mark.parametrize("key", [*(f"streamq:{{shop:0}}:{key}" for key in KEYS_AT_THE_START), store.APPS])
async def test_a_worker_starts_beside_a_damaged_key(valkey: EmbeddedServer, key: str, capsys: Any) -> None:
    """It serves what there is, by its code's policies, and says which key it is."""
    here = shop(valkey.url)
    await asyncio.to_thread(here.ask, "SET", key, "x")
    async with working(here.app, WORKER):
        await until(lambda: "stored.unreadable" in "".join(capsys.readouterr()))
        if key.endswith("types") or key == store.APPS:  # which enqueue needs
            await asyncio.to_thread(here.ask, "DEL", key)
        handle = await here.other.aenqueue(7)
        assert await handle.aresult(15) == 7
    await here.app.aclose()


def test_whatever_is_said_to_who_listens(here: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Anybody may publish: what no worker says is passed over, and no text of it reaches the terminal raw."""
    channel = shard_keys("shop", 0).events
    hostile = [*store.VALUES, *(orjson.dumps(one) for one in _told())]

    def say_all() -> None:
        listening = f"listening to {here.app.name}"
        while listening not in heard.getvalue():
            time.sleep(0.01)
        for value in hostile:
            here.ask("PUBLISH", channel, value)
        while not ended.is_set():
            here.ask("PUBLISH", channel, store.said(NEIGHBOUR))
            time.sleep(0.05)

    heard, ended = io.StringIO(), threading.Event()
    speaker = threading.Thread(target=say_all, daemon=True)
    with contextlib.redirect_stderr(heard):
        speaker.start()
        try:
            code = main(
                [
                    "tail",
                    "--url",
                    here.url,
                    "--app",
                    "shop",
                    "--type",
                    NEIGHBOUR,
                    "--event",
                    "completed",
                    "--limit",
                    "1",
                ]
            )
        finally:
            ended.set()
            speaker.join(20)
    out = capsys.readouterr().out
    assert code == 0
    assert f"{NEIGHBOUR}:0:n1-0" in out
    assert not any(letter in out + heard.getvalue() for letter in "\x1b\x07\u202e")


def _told() -> Iterator[dict[str, Any]]:
    """What a worker says, with each of its values in turn replaced."""
    good = orjson.loads(store.said("email"))
    values: list[Any] = [None, True, -1, 1e308, 2**63, "x", "\x1b[2J\u202e", [], {}, ["x"], [[]], {"id": 5}]
    for value in values:
        yield from ({**good, name: value} for name in good)
        event = good["events"][0]
        yield from ({**good, "events": [{**event, name: value}]} for name in event)
