from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cellblock import Host, Result, Session

PATIENCE = 60.0
"""Seconds after which something that should have happened will not."""


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host of the test's own."""
    async with Host() as host:
        yield host


@pytest.fixture
async def session(host: Host) -> AsyncIterator[Session]:
    async with Session(host=host) as session:
        yield session


WAITS = "await new Promise(() => setTimeout(() => {}, 1e9))"
"""A program that does not end by itself."""


async def begun(session: Session, program: str = WAITS) -> asyncio.Task[Result]:
    """A program that has begun to run."""
    running = asyncio.Event()

    async def begin() -> None:
        running.set()

    task = asyncio.create_task(session.exec(f"await tools.begin(); {program}", tools=[begin]))
    await asyncio.wait_for(running.wait(), PATIENCE)
    return task


def children() -> set[int]:
    """The processes that this one has started and not reaped."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "it does not hold in time"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """A test leaves no process and no file descriptor behind."""
    processes = children()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    eventually(lambda: children() <= processes)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)
