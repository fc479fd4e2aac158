"""A handler that makes a step in a child process. The server and the ring come from the environment."""

from __future__ import annotations

from streamq import StreamQ, get_context

app = StreamQ("shop")


def secret() -> str:
    return "secret"


@app.task(executor="process", retention=600)
def apart() -> str:
    found = get_context().step_sync("memo", secret)
    get_context().wait_sync("go")
    return str(found)
