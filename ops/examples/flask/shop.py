from flask import Flask, abort, current_app

from streamq import InvalidTaskId, StreamQ
from streamq.flask import FlaskStreamQ

queue = StreamQ("shop")
tasks = FlaskStreamQ(queue)


@queue.task(max_attempts=4, retention="1h")
def invoice(order: str) -> str:
    return f"{current_app.config['CURRENCY']} invoice for {order}"


def create_app() -> Flask:
    web = Flask("shop")
    web.config["CURRENCY"] = "EUR"
    web.config.from_prefixed_env()  # FLASK_STREAMQ_URL names the server
    tasks.init_app(web)

    @web.post("/orders/<order>")
    def accept(order: str) -> tuple[dict[str, str], int]:
        return {"task": invoice.enqueue(order).id}, 202

    @web.get("/tasks/<task_id>")
    def task(task_id: str) -> dict[str, str | None]:
        try:
            handle = queue.handle(task_id)
        except InvalidTaskId as error:
            abort(404, str(error))
        status = handle.status()
        return {"status": status, "result": handle.result() if status == "completed" else None}

    return web
