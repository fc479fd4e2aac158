from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException

from streamq import InvalidTaskId, StreamQ
from streamq.asgi import lifespan

queue = StreamQ("shop")
web = FastAPI(lifespan=lifespan(queue))


class Session:
    async def price_of(self, order: str) -> int:
        return 100 * len(order)


async def session() -> AsyncIterator[Session]:
    yield Session()  # opened for each request, and for each attempt


@queue.task(max_attempts=4, retention="1h")
async def invoice(order: str, db: Session = Depends(session)) -> str:
    return f"{order}: {await db.price_of(order)} cents"


@web.post("/orders/{order}", status_code=202)
async def accept(order: str, db: Session = Depends(session)) -> dict[str, str]:
    if await db.price_of(order) == 0:
        raise HTTPException(422, "an empty order")
    handle = await invoice.aenqueue(order)
    return {"task": handle.id}


@web.get("/tasks/{task_id}")
async def task(task_id: str) -> dict[str, str | None]:
    try:
        handle = queue.handle(task_id)
    except InvalidTaskId as error:
        raise HTTPException(404, str(error)) from None
    status = await handle.astatus()
    return {"status": status, "result": await handle.aresult() if status == "completed" else None}
