"""Run the demo's producer, a program of its own: `python -m streamq.demo.producer TASKS`.

Enqueues nine e-mails for each image, one by one and in bulk, and records each accepted id in the ledger.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Final

from streamq.app.bound_task import Bound
from streamq.demo import ledger
from streamq.demo.tasks import app, email, image_processing
from streamq.model.task import Priority

BULK: Final = 50
BODY: Final = "Dear customer, your order has been sent and should be with you in a few days."


def main(tasks: int) -> None:
    bulk: list[Bound[object]] = []
    for number in range(tasks):
        bulk.append(_image(number) if number % 10 == 9 else _email(number))
        if len(bulk) == BULK:
            _send(bulk)
            bulk = []
    _send(bulk)


def _email(number: int) -> Bound[object]:
    priority: Priority = "high" if number % 10 == 0 else "normal"
    return email.options(priority=priority).bind(number, f"customer{number}@example.com", "Your order", BODY)


def _image(number: int) -> Bound[object]:
    delay = random.uniform(0.5, 3.0)
    return image_processing.options(delay=delay).bind(number, time.time() + delay)


def _send(bulk: list[Bound[object]]) -> None:
    for handle in app.enqueue_many(bulk):
        ledger.write("accepted", handle.id)


if __name__ == "__main__":
    main(int(sys.argv[1]))
