"""A crawler for several customers: politely slow, fair between them, and each page once.

    python crawler.py acme=http://127.0.0.1:8000/ globex=http://127.0.0.1:8001/

Each customer is a lane: at most two requests at once and ten a second, and customers take turns, however many
pages one of them has. A key makes each page of a customer one task an hour, whoever links to it and however
often its links are read: an attempt that is repeated sends nothing twice. Pages go to pages.sqlite.
"""

import asyncio
import os
import re
import sqlite3
import sys
import urllib.request
from urllib.parse import urljoin, urlsplit

from streamq import Daemon, Lane, StreamQ

os.environ.setdefault("STREAMQ_ENV", "dev")                   # a private server may be used
app = StreamQ("crawler", os.environ.get("STREAMQ_URL") or "embedded://")
LINK = re.compile(r'href="([^"#]+)"')
DEEPEST = 3


@app.task(lane=Lane("customer", running=2, rate="10/s", burst=2, fair=True), max_attempts=3, timeout="20s")
def crawl(customer: str, url: str, depth: int = 0) -> int:
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    store(customer, url, text)
    found = {urljoin(url, link) for link in LINK.findall(text)} if depth < DEEPEST else set()
    links = sorted(link for link in found if urlsplit(link).netloc == urlsplit(url).netloc)
    app.enqueue_many([page(customer, link).bind(customer, link, depth + 1) for link in links])
    return len(links)


def page(customer: str, url: str):
    """The task of one page: the same from wherever it is linked."""
    return crawl.options(throttle="1h", unique=f"{customer} {url}")


def store(customer: str, url: str, text: str) -> None:
    with sqlite3.connect("pages.sqlite", timeout=20) as database:
        database.execute("CREATE TABLE IF NOT EXISTS pages (customer, url, text, UNIQUE (customer, url))")
        database.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", (customer, url, text))


async def main(starts: list[str]) -> None:
    daemon = Daemon(app.address)                              # moves on who waits for a token of its rate
    tending = asyncio.create_task(daemon.run())
    async with app.run_worker(concurrency=20):
        for start in starts:
            customer, _, url = start.partition("=")
            await page(customer, url).aenqueue(customer, url)
        await app.await_idle(scheduled=True)
    daemon.stop()
    await tending
    with sqlite3.connect("pages.sqlite") as database:
        for customer, count in database.execute("SELECT customer, count(*) FROM pages GROUP BY 1 ORDER BY 1"):
            print(f"{customer}: {count} pages")
    await app.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
