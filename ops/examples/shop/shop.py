"""A small shop with FastAPI: an order is a row and a task, charged, packed, and told while it happens.

    uvicorn shop:web

    curl --json '{"email": "ada@example.com", "item": "lamp"}' localhost:8000/orders
    curl localhost:8000/orders/1              # its state
    curl -N localhost:8000/orders/1/events    # its progress, as server-sent events
    curl -X DELETE localhost:8000/orders/1    # cancel it while it waits

An order and its task are written in one transaction: the outbox sends the task after the COMMIT, also if this
process dies in between. The card is charged in a step, under a key that is the same in each attempt. The mail
is a follow-up: it exists if and only if the order was packed. Each warehouse packs one order at a time. The
dashboard is at /queue; the terminal shows how to log in. Orders go to shop.sqlite.

Worker, daemon and relay run inside the web process here. In production start them as processes of their own:
`streamq worker shop:queue`, `streamq daemon`, `streamq outbox relay shop:outbox`.
"""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from streamq import Daemon, Every, KeyedTask, Lane, StreamQ, get_context
from streamq.asgi import lifespan
from streamq.dashboard import dashboard
from streamq.outbox import Outbox, outbox_table

os.environ.setdefault("STREAMQ_ENV", "dev")  # a private server may be used
queue = StreamQ("shop", os.environ.get("STREAMQ_URL") or "embedded://")
PRICES = {"lamp": 4900, "chair": 8900, "diamond": 990_000}  # in cents


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    item: Mapped[str]
    state: Mapped[str] = mapped_column(default="placed")
    receipt: Mapped[str] = mapped_column(default="")


engine = create_engine("sqlite:///shop.sqlite", connect_args={"timeout": 20})
outbox = Outbox(queue, outbox_table(Base.metadata), engine)


class CardDeclined(Exception): ...


# -- what happens behind the request ----------------------------------------------------------------------


def charge(order: int, cents: int, key: str) -> str:
    """The bank. It is given the same key in every attempt, and so charges once."""
    if cents > 100_000:
        raise CardDeclined(f"order {order}: {cents / 100:.2f} is too much")
    return f"receipt {key.rpartition(':')[2]}"


@queue.task(lane=Lane("warehouse", running=1), max_attempts=5, give_up_on=CardDeclined)
def fulfil(order: int, item: str, warehouse: str) -> str:
    context = get_context()
    context.progress(0, 2, "charging")
    try:
        receipt = context.step_sync("charge", charge, order, PRICES[item], context.id)
    except CardDeclined:
        note(order, "declined")
        raise
    note(order, "paid", receipt)
    context.progress(1, 2, f"packing in {warehouse}")
    context.enqueue(mail.bind(order))  # exists from the moment that this task is completed
    note(order, "packed")
    context.progress(2, 2, "packed")
    return receipt


@queue.task
def mail(order: int) -> str:
    with Session(engine) as session:
        email = session.get_one(Order, order).email
    note(order, "sent")
    return f"mail to {email}"


@queue.task(schedule=Every("1d"))
def report() -> dict[str, int]:
    """Return how many orders there are in each state."""
    with Session(engine) as session:
        return dict(session.execute(select(Order.state, func.count()).group_by(Order.state)).tuples().all())


def note(order: int, state: str, receipt: str | None = None) -> None:
    with Session(engine) as session, session.begin():
        row = session.get_one(Order, order)
        row.state, row.receipt = state, receipt or row.receipt


# -- the web ----------------------------------------------------------------------------------------------


class Wish(BaseModel):
    email: str = Field(pattern="@")
    item: Literal["lamp", "chair", "diamond"]
    warehouse: str = "north"


@asynccontextmanager
async def services(_: FastAPI) -> AsyncIterator[None]:
    """The tables, a daemon, and the relay, which sends what a process left behind that died."""
    Base.metadata.create_all(engine)
    daemon, stop = Daemon(queue.address), threading.Event()
    running = asyncio.gather(daemon.run(), asyncio.to_thread(outbox.run, stop))
    yield
    daemon.stop()
    stop.set()
    await running


web = FastAPI(lifespan=lifespan(queue, services, worker={"concurrency": 10}))
web.mount("/queue", dashboard(queue))


def task_of(order: int) -> KeyedTask:
    return queue.find("fulfil", key=f"order:{order}")


@web.post("/orders", status_code=202)
def place(wish: Wish) -> dict[str, int]:
    with Session(engine) as session, session.begin():
        order = Order(email=wish.email, item=wish.item)
        session.add(order)
        session.flush()  # gives the order its id
        call = fulfil.options(idempotency_key=f"order:{order.id}").bind(order.id, wish.item, wish.warehouse)
        outbox.add(session, call)
        return {"order": order.id}


@web.get("/orders/{order}")
def look(order: int) -> dict[str, str]:
    with Session(engine) as session:
        if (row := session.get(Order, order)) is None:
            raise HTTPException(404, f"there is no order {order}")
        return {"state": row.state, "receipt": row.receipt, "task": task_of(order).status()}


@web.delete("/orders/{order}")
def cancel(order: int) -> dict[str, str]:
    answer = task_of(order).cancel()
    if answer == "cancelled":
        note(order, "cancelled")
    return {"answer": answer}


@web.get("/orders/{order}/events")
async def events(order: int) -> StreamingResponse:
    if (task := await task_of(order).ahandle()) is None:
        raise HTTPException(404, f"order {order} has no task")

    async def lines() -> AsyncIterator[str]:
        async for event in task.events():
            yield f"data: {json.dumps(event.text if event.kind == 'progress' else event.value)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
