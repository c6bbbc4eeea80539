"""Sandboxes of Python, each with the same four tasks: `contestants.py NAME TASK`.

Prints one JSON value. `compare.py` calls it.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

STARTS, CALLS, PARKED = 200, 2_000, 100
MEMORY = 64 << 20
# Seconds of running; some count waiting for tools, too.
TIME = 1.0 if sys.argv[2:] == ["hostile"] else 60.0


def resident_kib() -> float:
    """Memory of this process and all that it has started."""
    pids, total = [os.getpid()], 0.0
    while pids:
        pid = pids.pop()
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
            smaps = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += float(smaps.split("Pss:")[1].split()[0])
    return total


class Cellblock:
    """This project's client."""

    one = "1 + 1"
    call = f"for (let i = 0; i < {CALLS}; i++) await tools.echo({{ n: i }}); 1"
    park = "await tools.wait(); 1"

    async def __aenter__(self) -> Cellblock:
        from cellblock import Session, Tool

        async def wait(_: Any) -> None:
            await asyncio.Event().wait()

        async def echo(given: Any) -> Any:
            return given["n"]

        tools = [Tool("echo", "", None, echo), Tool("wait", "", None, wait)]
        limits: Any = {"running_time": TIME, "memory_bytes": MEMORY}
        self.sessions = [Session(tools, limits=limits) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self.sessions:
            await session.close()

    async def run(self, program: str) -> Any:
        result = await self.sessions[0].exec(program)
        return result.check().value

    async def parked(self, count: int) -> Any:
        """Starts programs that wait, over several sessions, as each has a limit."""
        return await asyncio.gather(
            *(self.sessions[n % 4].exec(self.park, yield_after=0) for n in range(count))
        )


class QuickJS:
    """quickjs-rs: QuickJS in WebAssembly, in this process."""

    one = "1 + 1"
    call = f"for (let i = 0; i < {CALLS}; i++) await echo(i); 1"
    park = "await wait(); 1"

    async def __aenter__(self) -> QuickJS:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def context(self) -> Any:
        import quickjs_rs

        async def wait() -> None:
            await asyncio.Event().wait()

        async def echo(n: int) -> int:
            return n

        runtime = quickjs_rs.Runtime(memory_limit=MEMORY)
        context = runtime.new_context(timeout=TIME)
        context.register("echo", echo)
        context.register("wait", wait)
        return runtime, context

    async def run(self, program: str) -> Any:
        runtime, context = self.context()
        try:
            return await context.eval_async(program)
        finally:
            context.close()
            runtime.close()

    async def parked(self, count: int) -> Any:
        kept = []
        for _ in range(count):
            runtime, context = self.context()
            task = asyncio.create_task(context.eval_async(self.park))
            kept.append((runtime, context, task))
        await asyncio.sleep(1)
        return kept


class Monty:
    """pydantic-monty: an interpreter of Python in processes of its own."""

    one = "1 + 1"
    call = f"for i in range({CALLS}):\n    await echo(i)\n1"
    park = "await wait()\n1"

    async def __aenter__(self) -> Monty:
        import pydantic_monty

        self.pool = pydantic_monty.AsyncMonty()
        await self.pool.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.pool.__aexit__(*error)

    async def run(self, program: str) -> Any:
        async def echo(n: int) -> int:
            return n

        async def wait() -> None:
            await asyncio.Event().wait()

        limits: Any = {"max_feed_duration_secs": TIME, "max_memory": MEMORY}
        limits["max_suspensions"] = 10 * CALLS
        async with self.pool.checkout(limits=limits) as session:
            return await session.feed_run(program, external_lookup={"echo": echo, "wait": wait})

    async def parked(self, count: int) -> Any:
        tasks = [asyncio.create_task(self.run(self.park)) for _ in range(count)]
        await asyncio.sleep(3)
        return tasks


SANDBOXES: dict[str, Callable[[], Any]] = {
    "cellblock": Cellblock,
    "quickjs-rs": QuickJS,
    "pydantic-monty": Monty,
}


async def start(sandbox: Any) -> float:
    """Milliseconds of a new sandbox with `1 + 1` in it, the middle of many."""
    times = []
    await sandbox.run(sandbox.one)
    for _ in range(STARTS):
        began = time.perf_counter()
        if await sandbox.run(sandbox.one) != 2:
            raise SystemExit("1 + 1 is not 2")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


async def call(sandbox: Any) -> float:
    """Milliseconds of an awaited call of a tool."""
    began = time.perf_counter()
    await sandbox.run(sandbox.call)
    return (time.perf_counter() - began) / CALLS * 1e3


async def park(sandbox: Any) -> float:
    """KiB of a program that waits for a tool."""
    await sandbox.run(sandbox.one)
    before = resident_kib()
    kept = await sandbox.parked(PARKED)
    after = resident_kib()
    print(json.dumps((after - before) / PARKED), flush=True)
    # Nobody needs what is left to end in order.
    os._exit(0 if kept else 1)


async def hostile(sandbox: Any) -> bool:
    """Whether a program that is given on standard input is contained."""
    try:
        await asyncio.wait_for(sandbox.run(sys.stdin.read()), 10)
    except TimeoutError:
        # It ran beyond its time, and stopped only because it was made to.
        contained = False
    except Exception:
        contained = True
    else:
        contained = True
    alive = await asyncio.wait_for(sandbox.run(sandbox.one), 10) == 2
    print(json.dumps(contained and alive), flush=True)
    os._exit(0)


async def main() -> None:
    """Does one task."""
    tasks: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "start": start,
        "call": call,
        "park": park,
        "hostile": hostile,
    }
    async with SANDBOXES[sys.argv[1]]() as sandbox:
        print(json.dumps(await tasks[sys.argv[2]](sandbox)))


if __name__ == "__main__":
    asyncio.run(main())
