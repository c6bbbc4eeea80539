"""Cancellation, from here to the program and from the program to its tools."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cellblock import Host, Session

from .conftest import PATIENCE, WAITS

CALLS = "await tools.wait()"


class Waiter:
    """A tool that waits until it is cancelled, and notes what happens to it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self) -> None:
        """Waits."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # What a tool does then still happens.
            await asyncio.sleep(0)
            self.cancelled.set()
            raise


async def runs_nothing(session: Session) -> None:
    """The host runs nothing of the session any more: there is room for as much as may be."""
    for _ in range(1_000):
        answers = await asyncio.gather(
            *(session.exec(WAITS, yield_after=0) for _ in range(64)), return_exceptions=True
        )
        started = [answer for answer in answers if not isinstance(answer, BaseException)]
        await asyncio.gather(*(session.terminate(answer) for answer in started))
        if len(started) == 64:
            return
        await asyncio.sleep(0.02)
    pytest.fail("a program still runs")


async def test_a_task_that_is_cancelled_terminates_its_program(session: Session) -> None:
    waiter = Waiter()
    running = asyncio.create_task(session.exec(CALLS, tools=[waiter.wait]))
    await asyncio.wait_for(waiter.started.wait(), PATIENCE)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(waiter.cancelled.wait(), PATIENCE)
    await runs_nothing(session)


async def test_a_timeout_terminates_its_program(session: Session) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(session.exec("for (;;);"), 0.1)
    await runs_nothing(session)


async def test_a_task_that_is_cancelled_at_once_leaves_nothing(session: Session) -> None:
    for steps in range(30):
        running = asyncio.create_task(session.exec("for (;;);"))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await runs_nothing(session)


async def test_a_program_that_is_terminated_cancels_its_tools(session: Session) -> None:
    waiter = Waiter()
    first = await session.exec(CALLS, tools=[waiter.wait], yield_after=0)
    await asyncio.wait_for(waiter.started.wait(), PATIENCE)
    ended = await session.terminate(first)
    assert ended.status == "terminated"
    await asyncio.wait_for(waiter.cancelled.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("tools.wait(); await tools.ready(); 1", "completed"),
        ("tools.wait(); await tools.ready(); for (;;);", "limit"),
    ],
)
async def test_a_program_that_ends_cancels_its_tools(host: Host, program: str, status: str) -> None:
    waiter = Waiter()

    async def ready() -> None:
        await waiter.started.wait()

    async with Session([waiter.wait, ready], host=host, limits={"fuel": 1_000_000_000}) as session:
        result = await session.exec(program)
    assert result.status == status
    await asyncio.wait_for(waiter.cancelled.wait(), PATIENCE)


async def test_a_tool_that_does_not_want_to_end_holds_nobody_up(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellblock._cell.CANCEL_GRACE", 0.1)
    release = asyncio.Event()
    started = asyncio.Event()

    async def stubborn() -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with Session([stubborn], host=host) as session:
        first = await session.exec("await tools.stubborn()", yield_after=0)
        await asyncio.wait_for(started.wait(), PATIENCE)
        ended = await asyncio.wait_for(session.terminate(first), PATIENCE)
        assert ended.status == "terminated"
        release.set()


async def test_a_thread_that_goes_on_holds_nobody_up(session: Session) -> None:
    started, release = threading.Event(), threading.Event()

    def blocks() -> None:
        started.set()
        release.wait(PATIENCE)

    first = await session.exec("await tools.blocks()", tools=[blocks], yield_after=0)
    await asyncio.to_thread(started.wait, PATIENCE)
    ended = await asyncio.wait_for(session.terminate(first), PATIENCE)
    assert ended.status == "terminated"
    release.set()


async def test_a_tool_that_cancels_itself_fails_alone(session: Session) -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    program = "try { await tools.gives_up() } catch (e) { e.message }"
    result = await session.exec(program, tools=[gives_up])
    assert result.value == "the tool was cancelled"


async def test_a_wait_that_is_cancelled_leaves_the_program_alone(session: Session) -> None:
    release = asyncio.Event()

    async def wait() -> str:
        await release.wait()
        return "done"

    first = await session.exec("await tools.wait()", tools=[wait], yield_after=0)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(session.wait(first), 0.05)
    release.set()
    assert (await session.wait(first)).value == "done"


async def test_closing_a_session_cancels_its_tools(host: Host) -> None:
    waiter = Waiter()
    async with Session([waiter.wait], host=host) as session:
        running: asyncio.Task[Any] = asyncio.create_task(session.exec(CALLS))
        await asyncio.wait_for(waiter.started.wait(), PATIENCE)
    assert (await asyncio.wait_for(running, PATIENCE)).status == "terminated"
    await asyncio.wait_for(waiter.cancelled.wait(), PATIENCE)
