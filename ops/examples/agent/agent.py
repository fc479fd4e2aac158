"""An agent that plans, uses tools, waits for a person's approval, and streams what it does.

    python agent.py "Refund order 17"           # asks in the terminal; --yes and --no answer at once

Each call of the model and of a tool is a step: when the worker dies, the next attempt goes on behind the last
one. While a person thinks, the task takes no slot; it may take a week, and the program may be restarted. The
model here is a function of rules, so that the program runs without a key: put yours in `think`.
"""

import asyncio
import os
import sys
from dataclasses import dataclass

from streamq import Daemon, SignalTimeout, StreamQ, get_context

os.environ.setdefault("STREAMQ_ENV", "dev")                   # a private server may be used
app = StreamQ("agent", os.environ.get("STREAMQ_URL") or "embedded://")


@dataclass
class Action:
    tool: str
    argument: str
    dangerous: bool = False


@dataclass
class Approval:
    yes: bool
    by: str


async def think(goal: str, done: list[str]) -> Action:
    """The model: what to do next. Yours asks a service here."""
    order = "".join(filter(str.isdigit, goal)) or "1"
    plan = [Action("look_up", order), Action("refund", order, dangerous=True), Action("finish", order)]
    action = plan[len(done)]
    get_context().emit({"next": f"{action.tool} {action.argument}"})
    return action


async def look_up(order: str) -> str:
    return f"order {order}: 42.00, delivered late"


async def refund(order: str) -> str:
    # get_context().id is the same in every attempt: the payment service's idempotency key
    return f"refunded order {order}, reference {get_context().id.rpartition(':')[2]}"


TOOLS = {"look_up": look_up, "refund": refund}


async def use(action: Action) -> str:
    answer = await TOOLS[action.tool](action.argument)
    get_context().emit({"did": answer})
    return answer


async def ask(action: Action) -> None:
    get_context().emit({"asks": f"{action.tool} {action.argument}?"})


@app.task(max_attempts=5, timeout="5m", retention="1d")
async def agent(goal: str) -> list[str]:
    context, done = get_context(), list[str]()
    for number in range(10):
        action = await context.step(f"think {number}", think, goal, done)
        if action.tool == "finish":
            return done
        if action.dangerous:
            await context.step(f"ask {number}", ask, action)  # once, however often the handler begins
            if not await approved():
                return [*done, f"{action.tool} was not approved"]
        done.append(await context.step(f"use {number}", use, action))
    raise RuntimeError("ten actions, and no end")


async def approved() -> bool:
    try:
        return (await get_context().wait("approval", Approval, timeout="7d")).yes
    except SignalTimeout:
        return False


async def main(goal: str, answer: str) -> None:
    daemon = Daemon(app.address)                              # ends waits whose time is over
    tending = asyncio.create_task(daemon.run())
    async with app.run_worker():
        task = await agent.aenqueue(goal)
        async for event in task.events():
            if event.kind == "value":
                print(*(f"{name}: {value}" for name, value in event.value.items()))
                if "asks" in event.value:
                    said = answer or await asyncio.to_thread(input, "yes or no? ")
                    await task.asignal("approval", {"yes": said == "yes", "by": "the terminal"})
        for line in await task.aresult(timeout="1m"):
            print(line)
    daemon.stop()
    await tending
    await app.aclose()


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    flags = {word.removeprefix("--") for word in sys.argv[1:]} & {"yes", "no"}
    asyncio.run(main(" ".join(words) or "Refund order 17", next(iter(flags), "")))
