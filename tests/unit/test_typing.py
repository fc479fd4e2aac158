"""The public surface as a type checker sees it: right calls pass, wrong ones are caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = """
import asyncio
from typing import assert_type
from streamq import StreamQ, TaskHandle
app = StreamQ("shop")

@app.task(max_attempts=4, timeout=30)
async def email(to: str, subject: str, *, body: str = "") -> int:
    return 1

@app.task
async def plain(to: str) -> None: ...

@app.task
def resize(px: int) -> str:
    return str(px)

async def use() -> None:
"""

GOOD = """
    assert_type(email.enqueue("a", "b", body="c"), TaskHandle[int])
    assert_type(await email.aenqueue("a", "b"), TaskHandle[int])
    assert_type(await email("a", "b"), int)
    assert_type(resize(5), str)
    assert_type(await asyncio.create_task(email("a", "b")), int)
    asyncio.run_coroutine_threadsafe(email("a", "b"), asyncio.get_running_loop())
    async with asyncio.TaskGroup() as group:
        group.create_task(email("a", "b"))
        group.create_task(email.aenqueue("a", "b"))
        group.create_task(plain("a"))
    assert_type(resize.options(delay="5m", priority="high").enqueue(1).result(timeout=5), str)
    assert_type(await (await email.aenqueue("a", "b")).aresult(), int)
    app.enqueue_many([email.bind("a", "b"), resize.bind(1)])
    once = resize.options(idempotency_key="order-42", idempotency_window="2d", durability="replicas:1")
    assert_type(once.enqueue(1), TaskHandle[str])
    assert_type(once.enqueue(1).duplicate, bool)
    app.send("resize", {"px": 1}, shard_key="customer-7", durability="aof")

@app.task(durability="aof")
def durable() -> None: ...
"""

WRONG = [
    "email.enqueue(1, 'b')",
    "email.enqueue('a')",
    "email.enqueue('a', 'b', nonsense=1)",
    "email.options(delay=5).enqueue('a', 2)",
    "await email.aenqueue('a')",
    "resize.bind('x')",
    "resize.options(dela=5)",
    "resize.options(priority='urgent')",
    "resize.options(durability='replica')",
    "resize.options(idempotency_key=42)",
    "app.send('resize', {}, shardkey='x')",
    "app.task(durability='disk')",
    "app.task(max_attempt=3)",
]


def checked(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "user.py"
    path.write_text(HEAD + code)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_right_calls_pass_and_every_wrong_one_is_caught(tmp_path: Path) -> None:
    good = checked(GOOD, tmp_path)
    assert good.returncode == 0, good.stdout
    wrong = checked("".join(f"    {line}\n" for line in WRONG), tmp_path)
    first = HEAD.count("\n") + 1
    for number, line in enumerate(WRONG, first):
        assert f"user.py:{number}: error" in wrong.stdout, f"not caught: {line}\n{wrong.stdout}"
