"""The app under test: handlers that do what their task says, and write it down.

Owns the conducts. A handler is told in its arguments how to behave, so the checker knows what must come
of it; the same for a coroutine, a thread and a process.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from multiprocessing import current_process
from typing import Any, Final

from tenacity import wait_random

from streamq import Retry, StreamQ, get_context
from tests.chaos import clock, history, sabotage

clock.install()
sabotage.apply()

LEASE: Final = 2.0
MAX_ATTEMPTS: Final = 3
TIMEOUT: Final = 6.0
OVERRUN: Final = 0.5
"""The timeout of a task that is to run into it."""
LINGER: Final = 5.5
"""Seconds that a run takes which is to be cancelled by the next one."""
CHILD: Final = "streamq-child"
"""The name of a process that a worker started for handlers."""
SHARDS: Final = "STREAMQ_CHAOS_SHARDS"
BACKLOG: Final = 30

CONDUCTS: Final = {
    "ok": 700,
    "slow": 60,
    "fail1": 40,
    "fail2": 20,
    "fail": 15,
    "retry": 20,
    "overrun": 6,
    "crash1": 3,
    "crash": 1,
    "block": 3,
}
"""How a handler may behave, with weights: succeed, take a while, fail once or twice and then succeed, fail
until dead, ask for a retry once, run into the timeout once, kill its process once or always, block its
event loop for longer than the lease."""

app = StreamQ("chaos", shards=int(os.environ.get(SHARDS, "1")), patience=3)


class Failed(Exception):
    """What a handler fails with when it is told to."""


class Step:
    """One execution: notes its start, with what is given in `about`, then behaves as told."""

    def __init__(self, key: str, conduct: str, **about: Any) -> None:
        context: Any = get_context()
        self.token = f"{os.getpid()}-{random.getrandbits(48):x}"
        if history.looked_after(key):
            conduct = "ok"
        self.conduct, self.attempt, self.lost = conduct, context.attempt, context.lost
        self._about = {
            **({"key": key} if key else {}),
            "id": context.id,
            "attempt": context.attempt,
            "token": self.token,
            "conduct": conduct,
        }
        self.note(
            "start",
            lost=context.lost,
            place=context._task.place,
            worker=context.worker,
            apart=current_process().name == CHILD,
            **about,
        )

    def note(self, event: str, **more: Any) -> None:
        history.write(event, **self._about, **more)

    @property
    def seconds(self) -> float:
        """How long the work takes."""
        if self.conduct == "slow":
            return random.uniform(0.3, 1.5)
        if self.conduct == "linger":
            return LINGER
        return random.uniform(0.0, 0.05)

    @property
    def overruns(self) -> bool:
        return self.conduct == "overrun" and self.attempt == 1

    @property
    def crashes(self) -> bool:
        return self.conduct == "crash" or (self.conduct == "crash1" and self.attempt == 1 and not self.lost)

    def crash(self) -> None:
        self.note("crash")
        os.kill(os.getpid(), signal.SIGKILL)

    def interrupted(self) -> None:
        self.note("interrupted")

    def end(self) -> str:
        """Fail where that is the conduct; else the work is done: its effect, and the token as result."""
        times = {"fail": MAX_ATTEMPTS, "fail1": 1, "fail2": 2}.get(self.conduct, 0)
        if self.attempt <= times:
            self.note("fail")
            raise Failed(f"attempt {self.attempt} was told to fail")
        if self.conduct == "retry" and self.attempt == 1:
            self.note("fail")
            raise Retry("once more", after=random.uniform(0, 0.5))
        self.note("effect")
        return self.token


def policy() -> Any:
    return {
        "lease": LEASE,
        "max_attempts": MAX_ATTEMPTS,
        "timeout": TIMEOUT,
        "backoff": wait_random(0.05, 0.5),
    }


@app.task(**policy())
async def mail(key: str, conduct: str) -> str:
    """On the event loop."""
    return await behave(Step(key, conduct))


@app.task(**policy(), max_backlog=BACKLOG)
async def capped(key: str, conduct: str) -> str:
    """On the event loop; refused where too many wait."""
    return await behave(Step(key, conduct))


async def behave(step: Step) -> str:
    """What a coroutine does."""
    try:
        if step.overruns:
            await asyncio.sleep(60)
        await asyncio.sleep(step.seconds)
    except asyncio.CancelledError:
        step.interrupted()
        raise
    if step.crashes:
        step.crash()
    if step.conduct == "block":
        time.sleep(LEASE * 1.3)  # noqa: ASYNC251 - that is the fault
    return step.end()


@app.task(**policy())
def report(key: str, conduct: str) -> str:
    """In a thread."""
    return behave_in_thread(Step(key, conduct))


def behave_in_thread(step: Step) -> str:
    """What a handler in a thread does: it looks itself whether it is to end."""
    context = get_context()
    until = time.monotonic() + (60 if step.overruns else step.seconds)
    while time.monotonic() < until:
        if context.cancelled:
            step.interrupted()
            raise Failed("was cut short")
        time.sleep(0.01)
    if step.crashes:
        step.crash()
    return step.end()


@app.task(**policy() | {"timeout": 5 * TIMEOUT}, executor="process")
def image(key: str, conduct: str) -> str:
    """In a process that is killed when it is cut short. What kills it is an attempt that failed.

    In the previous release the start of the process counts as part of the attempt: hence its long timeout.
    """
    step = Step(key, conduct)
    time.sleep(60 if step.overruns else step.seconds)
    if step.crashes:
        step.crash()
    return step.end()


TYPES: Final[dict[str, Any]] = {"mail": mail, "capped": capped, "report": report, "image": image}
WEIGHTS: Final = {"mail": 70, "capped": 8, "report": 18, "image": 4}
