from litestar import Litestar, get, post
from litestar.exceptions import NotFoundException

from streamq import InvalidTaskId, StreamQ
from streamq.litestar import StreamQPlugin

queue = StreamQ("shop")


@queue.task(max_attempts=4, retention="1h")
async def invoice(order: str) -> str:
    return f"invoice for {order}"


@post("/orders/{order:str}", status_code=202)
async def accept(order: str) -> dict[str, str]:
    handle = await invoice.aenqueue(order)
    return {"task": handle.id}


@get("/tasks/{task_id:str}")
async def task(task_id: str) -> dict[str, str | None]:
    try:
        handle = queue.handle(task_id)
    except InvalidTaskId as error:
        raise NotFoundException(str(error)) from None
    status = await handle.astatus()
    return {"status": status, "result": await handle.aresult() if status == "completed" else None}


web = Litestar([accept, task], plugins=[StreamQPlugin(queue)])
