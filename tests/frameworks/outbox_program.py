"""A program with an outbox that can be killed at any of its steps: `outbox_program.py DATABASE SERVER STEP`.

STEP: where the process kills itself, such as `before-send`; or `write`, `relay`, for a whole run of that
part.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from sqlalchemy import MetaData, create_engine, event
from sqlalchemy.orm import Session

from streamq import StreamQ
from streamq.outbox import Outbox, outbox_table

STEPS = (
    "after-insert", "after-commit",  # of the user's transaction
    "after-claim", "before-send", "after-send", "after-delete", "after-relay",  # of the relay
)  # fmt: skip


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def main(  # noqa: C901 - one program
    database: str, server: str, step: str, immediate: str
) -> None:
    engine = create_engine(database)
    metadata = MetaData()
    app = StreamQ("shop", server)
    outbox = Outbox(app, outbox_table(metadata), engine, immediate=immediate == "immediate")

    @app.task
    def email(to: str) -> None: ...

    metadata.create_all(engine)
    send = app.enqueue_many

    def around_send(calls: Any) -> Any:
        if step == "before-send":
            die()
        found = send(calls)
        if step == "after-send":
            die()
        return found

    app.enqueue_many = around_send  # type: ignore[assignment,method-assign]

    @event.listens_for(engine, "after_cursor_execute")
    def executed(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        word = statement.split(maxsplit=1)[0].lower()
        if (word, step) in (("insert", "after-insert"), ("delete", "after-delete")):
            die()
        if step == "after-claim" and word == "select" and "FROM streamq_outbox" in statement:
            die()

    if step != "relay":
        with Session(engine) as session:
            for n in range(5):
                outbox.add(session, email.bind(f"{n}@example.org"))
            session.commit()
        if step == "after-commit":
            die()
    if step != "write":
        while outbox.relay_once():
            pass
        if step == "after-relay":
            die()


if __name__ == "__main__":
    main(*sys.argv[1:])
