"""Tasks of the site, as its own code would write them."""

import asyncio
import os
import threading
from importlib import import_module

from asgiref.sync import sync_to_async
from django.db import connection

from streamq import get_context
from streamq.django import task
from streamq.django.names import ROOT

from .models import Order

plain = import_module(ROOT).task
"""The decorator of django.tasks itself."""
calls: list = []
threads: list = []


@plain
def add(a, b=2):
    calls.append((a, b))
    return a + b


@plain
def noop(*args, **kwargs):
    return None


@plain
async def nothing():
    return "nothing"


@plain(takes_context=True)
def with_context(context, name):
    return {"id": context.task_result.id, "attempt": context.attempt, "name": name}


@plain(queue_name="mail", priority=10)
def mail(to):
    calls.append(("mail", to))


@task(max_attempts=3)
def flaky(until):
    attempt = get_context().attempt
    if attempt < until:
        raise ValueError(f"attempt {attempt}")
    return attempt


@plain
async def pay(order):
    await Order.objects.filter(pk=order).aupdate(paid=1)
    threads.append(await sync_to_async(threading.get_ident)())
    return order


@plain
def pay_sync(order):
    Order.objects.filter(pk=order).update(paid=2)
    return connection.vendor


class Complex(Exception):
    def __init__(self, one, two):
        super().__init__()
        self.one, self.two = one, two

    def __str__(self):
        return f"{self.one} and {self.two}"


@task(max_attempts=1)
def fails(kind="complex"):
    if kind == "complex":
        raise Complex("one", two=lambda: None)
    if kind == "exit":
        raise SystemExit(3)
    if kind == "ctrl-c":
        raise KeyboardInterrupt
    raise ValueError(kind)


@plain
def returns(kind):
    return {"complex": {"a": (1, 2), "b": b"text", "c": [None, True, 1.5]}, "bad": object(), "set": {1}}[kind]


@task(timeout=0.2, max_attempts=1)
async def slow():
    await asyncio.sleep(60)


@task(executor="process")
def in_process(n):
    return [os.getpid(), Order.objects.count(), n]


@task(max_attempts=1)
async def in_two_threads(number):
    """Two attempts meet here only if their ORM calls do not share one thread."""
    return await sync_to_async(_meet)(number)


barrier = threading.Barrier(2)


def _meet(number):
    barrier.wait(20)
    return number
