"""Make llms.txt and llms-full.txt from the pages of the site, for programs that write code with streamq.

Owns their first lines: what such programs get wrong. Must not say anything else that the pages do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

HEAD: Final = """# streamq

> A distributed task queue for Python on Redis Streams (Redis 7 or Valkey 7.2 and newer): typed, sync and async.

What other queues have taught, and what is different here:

- A task type is `@app.task` on a function of `app = StreamQ("name")`. There is no `.delay`, `.apply_async`, `.send`,
  `.kiq` and no `enqueue_job`: `handle = f.enqueue(...)`, in async code `handle = await f.aenqueue(...)`.
- Calling a task type, `f(...)`, runs the function in this process and sends nothing.
- Options of one call come first: `f.options(delay="5m", idempotency_key="order:17").enqueue(...)`.
- `handle.result(timeout=...)`, `await handle.aresult(timeout=...)`; `.status()`, `.cancel()`.
- `max_attempts` counts the first attempt, and every exception is retried unless it is in `give_up_on`. `timeout` is 30 s.
- `raise Retry(after="1m")` runs the task again; the attempt is `get_context().attempt`. There is no `bind=True`.
- Durations are seconds, a `timedelta`, or text such as `"1h30m"`. Times must have a time zone.
- Arguments travel as JSON and arrive as the annotated types. No pickles; pass ids, not model instances.
- Each task type is a queue: `streamq worker module:app --types a,b`. Delays and schedules need `streamq daemon`.
- Handlers may run more than once: `get_context().id` is the same in every attempt.
- Tests: the fixture `streamq_queue` of `streamq.testing` runs tasks in the test's thread.
"""


def write(folder: Path, address: str, sections: Iterable[tuple[str, list[str]]], titles: Mapping[str, str]) -> None:
    """Write both files to the site in `folder`; the pages are in `folder`/../docs."""
    index, full = [HEAD], [HEAD]
    for section, names in sections:
        index.append(f"## {section}\n\n")
        for name in names:
            place = name.removesuffix("index.md") if name.endswith("index.md") else name.removesuffix(".md") + "/"
            index.append(f"- [{titles[name]}]({address}/{place})\n")
            text = (folder.parent / "docs" / name).read_text().strip()
            full.append(f"<!-- {address}/{place} -->\n\n{text}\n\n")
        index.append("\n")
    (folder / "llms.txt").write_text("\n".join((index[0], "".join(index[1:]))))
    (folder / "llms-full.txt").write_text("\n".join((full[0], "".join(full[1:]))))
