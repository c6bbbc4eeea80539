"""Tools that block, and their threads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cellblock import Session
from cellblock._threads import _Workers, call

from .conftest import PATIENCE, begun, eventually


class Blocks:
    """A tool that blocks until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.let_go = threading.Event()

    def block(self, n: int = 0) -> int:
        self.started.release()
        self.let_go.wait(PATIENCE)
        return n


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> _Workers:
    """Threads of the test's own, which end soon when they have nothing to do."""
    workers = _Workers()
    monkeypatch.setattr("cellblock._threads._workers", workers)
    monkeypatch.setattr("cellblock._threads.IDLE_SECONDS", 0.05)
    return workers


async def test_tools_that_block_hold_up_no_other(session: Session, workers: _Workers) -> None:
    blocks = Blocks()
    # More than the threads that an event loop has.
    program = "await Promise.all(Array.from({ length: 60 }, (_, n) => tools.block({ n })))"
    running = asyncio.create_task(session.exec(program, tools=[blocks.block]))
    for _ in range(60):
        assert await asyncio.to_thread(blocks.started.acquire, True, PATIENCE)
    assert (await session.exec("await tools.quick()", tools={"quick": lambda: 1})).value == 1
    blocks.let_go.set()
    assert (await running).value == list(range(60))
    eventually(lambda: workers._count == 0)


async def test_threads_are_used_again(workers: _Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellblock._threads.IDLE_SECONDS", PATIENCE)
    names = set()
    for _ in range(20):
        names.add(await call(lambda _: threading.current_thread().ident, None))
        eventually(lambda: workers._idle == 1)
    assert len(names) == 1


async def test_there_are_at_most_so_many(
    workers: _Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellblock._threads.MAX_THREADS", 2)
    blocks = Blocks()
    ran: list[int] = []
    note: Callable[[Any], None] = ran.append
    two = [asyncio.create_task(call(blocks.block, n)) for n in range(2)]
    for _ in range(2):
        assert await asyncio.to_thread(blocks.started.acquire, True, PATIENCE)
    waiting, given_up = asyncio.create_task(call(note, 1)), asyncio.create_task(call(note, 2))
    await asyncio.sleep(0)
    assert (workers._count, ran) == (2, [])
    given_up.cancel()
    blocks.let_go.set()
    assert await asyncio.gather(*two) == [0, 1]
    await waiting
    # One that was cancelled before its turn never runs.
    with pytest.raises(asyncio.CancelledError):
        await given_up
    eventually(lambda: workers._count == 0)
    assert ran == [1]


async def test_a_system_without_threads(
    workers: _Workers, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    await session.exec("1")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        refused = await session.exec("await tools.quick()", tools={"quick": lambda: 1})
    assert "can't start new thread" in (refused.error or "")
    assert (await session.exec("await tools.quick()", tools={"quick": lambda: 1})).value == 1


async def test_a_program_that_runs_is_not_held_up(session: Session, workers: _Workers) -> None:
    blocks = Blocks()
    program = "await tools.block()"
    first = await session.exec(program, tools=[blocks.block], yield_after=0)
    assert await asyncio.to_thread(blocks.started.acquire, True, PATIENCE)
    running = await begun(session)
    assert (await session.terminate(first)).status == "terminated"
    running.cancel()
    blocks.let_go.set()


def test_the_interpreter_ends_though_a_tool_blocks() -> None:
    script = """
    import asyncio, threading
    from cellblock import Session

    started = threading.Event()

    def block():
        started.set()
        threading.Event().wait()

    async def main():
        async with Session([block]) as session:
            first = await session.exec("await tools.block()", yield_after=0)
            await asyncio.to_thread(started.wait)
            print((await session.terminate(first)).status)

    asyncio.run(main())
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("terminated\n", "", 0)
