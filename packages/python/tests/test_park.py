"""Programs that are parked as bytes, and woken."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cellblock import (
    BusyError,
    CellNotFoundError,
    Host,
    HostLostError,
    ParkError,
    Result,
    Session,
)

from .conftest import PATIENCE, WAITS, begun, children

ASKS = "let n = 1; text('asked'); n += await tools.ask({ what: 'how many?' }); text('told'); n"


class Asker:
    """A tool that waits for an answer."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.answered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ask(self, what: str) -> int:
        self.calls += 1
        self.called.set()
        try:
            await self.answered.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return 41


async def asking(session: Session, asker: Asker) -> Result:
    """A program that waits for an answer."""
    first = await session.exec(ASKS, tools=[asker.ask], yield_after=0)
    await asyncio.wait_for(asker.called.wait(), PATIENCE)
    return first


async def test_a_program_goes_on_in_another_process(tmp_path: Path) -> None:
    key = tmp_path / "park.key"
    asker = Asker()
    async with Host(park_key=key) as host, Session(host=host) as session:
        first = await asking(session, asker)
        parked = await session.park(first)
        assert type(parked) is bytes
        with pytest.raises(CellNotFoundError):
            await session.wait(first)
    # What it had called ends with its session.
    await asyncio.wait_for(asker.cancelled.wait(), PATIENCE)
    async with Host(park_key=key) as host, Session([asker.ask], host=host) as session:
        result = await session.wake(parked, resume={"ask": lambda what: f"{len(what)}"})
        assert (result.status, result.value) == ("completed", "19")
        assert "\n".join([first.text, result.text]).split() == ["asked", "told"]
        # Nobody knows whether the call has had its effect.
        result = await session.wake(parked, is_fork=True)
        assert "ask: the program was parked while this call ran" in (result.error or "")
    assert asker.calls == 1
    async with Host() as host, Session(host=host) as session:
        with pytest.raises(ParkError, match="another key") as raised:
            await session.wake(parked)
        assert raised.value.code == "park"


@pytest.mark.parametrize("answered_first", [True, False])
async def test_calls_run_on_in_their_session(session: Session, answered_first: bool) -> None:
    asker = Asker()
    parked = await session.park(await asking(session, asker))
    if answered_first:
        asker.answered.set()
        await asyncio.sleep(0)
    waking = asyncio.create_task(session.wake(parked, tools=[asker.ask]))
    asker.answered.set()
    result = await asyncio.wait_for(waking, PATIENCE)
    assert (result.value, asker.calls) == (42, 1)


async def test_no_call_is_lost_or_made_twice(session: Session) -> None:
    calls: list[int] = []
    ready = asyncio.Event()

    async def add(n: int) -> int:
        calls.append(n)
        await ready.wait()
        for _ in range(n % 7):
            await asyncio.sleep(0)
        return n

    program = "let sum = 0; for (let n = 0; n < 60; n++) sum += await tools.add({ n }); sum"
    result = await session.exec(program, tools=[add], yield_after=0)
    parks = 0
    ready.set()
    while result.status == "running":
        try:
            parked = await asyncio.wait_for(session.park(result), PATIENCE)
        except ParkError:
            # It has ended.
            result = await session.wait(result)
            continue
        parks += 1
        result = await session.wake(parked, tools=[add], yield_after=0.002)
    assert (result.error, result.value) == (None, sum(range(60)))
    assert calls == list(range(60))
    assert parks > 0


async def test_a_park_that_is_given_up_leaves_the_program_alone(session: Session) -> None:
    asker = Asker()
    first = await asking(session, asker)
    for steps in range(60):
        parking = asyncio.create_task(session.park(first))
        for _ in range(steps % 30):
            await asyncio.sleep(0)
        if steps >= 30:
            await asyncio.sleep(0.001 * (steps - 30))
        if parking.done() or not parking.cancel():
            first = await session.wake(parking.result(), tools=[asker.ask], yield_after=0)
            continue
        with pytest.raises(asyncio.CancelledError):
            await parking
    asker.answered.set()
    result = await asyncio.wait_for(session.wait(first), PATIENCE)
    while result.status == "running":
        result = await asyncio.wait_for(session.wait(result), PATIENCE)
    assert (result.error, result.value, asker.calls) == (None, 42, 1)


async def test_a_program_that_never_waits_is_not_parked(session: Session) -> None:
    busy = await session.exec("for (;;);", yield_after=0)
    parking = asyncio.create_task(session.park(busy))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(parking), 0.05)
    with pytest.raises(BusyError):
        await session.wait(busy)
    assert (await session.terminate(busy)).status == "terminated"
    with pytest.raises(ParkError):
        await parking


async def test_what_cannot_be_parked_or_woken(session: Session) -> None:
    with pytest.raises(CellNotFoundError):
        await session.park("7")
    ended = await session.exec("1", yield_after=0)
    if ended.status == "running":
        with pytest.raises(ParkError, match="wait for its result"):
            for _ in range(1_000):
                await session.park(ended)
    first = await session.exec(WAITS, yield_after=0)
    parked = await session.park(first)
    changed = bytearray(parked)
    changed[-1] ^= 1
    for wrong, why in [
        (b"", "not a parked cell"),
        (b"something else", "not a parked cell"),
        (parked[:40], "damaged"),
        (bytes(changed), "damaged"),
    ]:
        with pytest.raises(ParkError, match=why):
            await session.wake(wrong)
    woken = await session.wake(parked, yield_after=0)
    assert (await session.terminate(woken)).status == "terminated"


async def test_limits_are_those_of_the_session_that_wakes(host: Host) -> None:
    async with Session(host=host, limits={"memory_bytes": 256 << 20}) as large:
        parked = await large.park(await large.exec(WAITS, yield_after=0))
        async with Session(host=host, limits={"memory_bytes": 8 << 20}) as small:
            with pytest.raises(ParkError, match="memory"):
                await small.wake(parked)
        woken = await large.wake(parked, yield_after=0)
        assert (await large.terminate(woken)).status == "terminated"


async def test_tools_are_those_of_the_one_that_wakes(session: Session) -> None:
    program = "await tools.ask({ what: '' }); await tools.secret()"
    tools: Any = {"ask": Asker().ask, "secret": lambda: 1}
    async with Session(tools, host=session._host) as first:
        parked = await first.park(await first.exec(program, yield_after=0))
    resume = {"ask": lambda what: None}
    refused = await session.wake(parked, tools={"ask": Asker().ask}, resume=resume)
    assert refused.status == "failed"
    woken = await session.wake(parked, tools=tools, resume=resume, is_fork=True)
    assert (woken.error, woken.value) == (None, 1)


async def test_stored_values_are_merged_once(session: Session) -> None:
    program = "store('a', 1); await tools.ask({ what: '' }); load('b')"
    session.stored["b"] = 2
    asker = Asker()
    first = await session.exec(program, tools=[asker.ask], yield_after=0)
    parked = await session.park(first)
    assert "a" not in session.stored
    session.stored["b"] = 3
    asker.answered.set()
    assert (await session.wake(parked, tools=[asker.ask])).value == 2
    assert dict(session.stored) == {"a": 1, "b": 3}


async def test_a_host_that_fails_while_it_parks(host: Host) -> None:
    before = children()
    async with Session(host=host) as session:
        parked = await session.park(await session.exec(WAITS, yield_after=0))
        busy = await session.exec("for (;;);", yield_after=0)
        parking = asyncio.create_task(session.park(busy))
        await begun(session, "1")
        (process,) = children() - before
        os.kill(process, signal.SIGKILL)
        with pytest.raises(HostLostError):
            await asyncio.wait_for(parking, PATIENCE)
        # Its key was that process's own.
        with pytest.raises(ParkError, match="another key"):
            await session.wake(parked)


async def test_hosts_elsewhere_have_keys_of_their_own(tmp_path: Path) -> None:
    given: Any
    for given in ({"url": "unix:///x"}, {"command": ["x"]}):
        with pytest.raises(ValueError, match="key"):
            Host(park_key=tmp_path / "key", **given)
