from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cellblock import Host, Session

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
