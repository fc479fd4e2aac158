"""Measure the outbox on PostgreSQL: rows written and rows relayed a second.

python ops/bench/outbox.py postgresql+psycopg://USER@/DATABASE?host=/run/postgresql redis://localhost:6379/0
Uses a table of its own, which it drops, and the app `outbox-bench`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

from sqlalchemy import MetaData, create_engine
from sqlalchemy.orm import Session

from streamq import StreamQ
from streamq.outbox import Outbox, outbox_table

ROWS, RUNS = 10_000, 5


def figures(database: str, server: str) -> Iterator[tuple[str, str]]:
    """Yield each figure with its name. Writes to a table of its own, which is dropped."""
    engine = create_engine(database)
    metadata = MetaData()
    table = outbox_table(metadata, "streamq_outbox_bench")
    app = StreamQ("outbox-bench", server)
    outbox = Outbox(app, table, engine, immediate=False)
    immediate = Outbox(app, outbox_table(MetaData(), "streamq_outbox_bench"), engine)

    @app.task
    def email(to: str) -> None: ...

    metadata.create_all(engine)
    measured: dict[str, list[float]] = {"written": [], "relayed": [], "single": []}
    try:
        for run in range(RUNS):
            began = time.perf_counter()
            for start in range(0, ROWS, 100):  # transactions of a hundred rows
                with Session(engine) as session:
                    calls = [email.bind(f"{run}-{start + n}@example.org") for n in range(100)]
                    outbox.add_many(session, calls)
                    session.commit()
            measured["written"].append(ROWS / (time.perf_counter() - began))
            began = time.perf_counter()
            while outbox.relay_once():
                pass
            measured["relayed"].append(ROWS / (time.perf_counter() - began))
            began = time.perf_counter()
            for n in range(500):  # one row a transaction, sent at once after its commit
                with Session(engine) as session:
                    immediate.add(session, email.bind(f"single-{run}-{n}@example.org"))
                    session.commit()
            measured["single"].append(500 / (time.perf_counter() - began))
    finally:
        metadata.drop_all(engine)
    names = {
        "written": "rows written a second, 100 a transaction",
        "relayed": "rows relayed a second, one relay",
        "single": "transactions a second with one row each, sent at once",
    }
    for name, about in names.items():
        found = sorted(measured[name])
        yield about, f"{statistics.median(found):,.0f} ({found[0]:,.0f} to {found[-1]:,.0f})"


def main(database: str, server: str) -> None:
    for name, value in figures(database, server):
        print(f"{name}: {value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
