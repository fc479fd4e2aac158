"""The demo's app: e-mails, some of which fail at first, and images that cost CPU time.

Owns the handlers. The server is STREAMQ_URL. The lease is short, so that the demo need not wait long for a
killed worker.
"""

from __future__ import annotations

import asyncio

from tenacity import wait_random

from streamq.app.app import StreamQ
from streamq.context import get_context
from streamq.demo import ledger

app: StreamQ = StreamQ("demo")
SIZE = 48


class MailServerBusy(Exception):
    """The mail server did not accept the message."""


@app.task(max_attempts=4, timeout=10, lease=2, backoff=wait_random(0.1, 0.5))
async def email(number: int, to: str, subject: str, body: str) -> str:
    """Send an e-mail, which takes some milliseconds of waiting. One in twenty fails at first."""
    context = get_context()
    ledger.write("start", context.id, attempt=context.attempt, due=context.enqueued_at.timestamp())
    await asyncio.sleep(0.01)
    if number % 20 == 7 and context.attempt == 1:
        ledger.write("fail", context.id, attempt=context.attempt)
        raise MailServerBusy(f"try again later: {subject!r} to {to} ({len(body)} characters)")
    ledger.write("done", context.id, attempt=context.attempt)
    return f"sent to {to}"


@app.task(executor="process", timeout=30, lease=2)
def image_processing(number: int, due: float) -> int:
    """Blur an image with slow code, in a process of its own."""
    context = get_context()
    ledger.write("start", context.id, attempt=context.attempt, due=due)
    image = [[(x * number + y) % 256 for x in range(SIZE)] for y in range(SIZE)]
    checksum = sum(map(sum, _blurred(image)))
    ledger.write("done", context.id, attempt=context.attempt)
    return checksum


def _blurred(image: list[list[int]]) -> list[list[int]]:
    near = (-1, 0, 1)
    return [
        [sum(image[(y + dy) % SIZE][(x + dx) % SIZE] for dy in near for dx in near) // 9 for x in range(SIZE)]
        for y in range(SIZE)
    ]
