"""Hosts that break the protocol: nothing hangs, nothing else breaks, the reason is said."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from cellblock import (
    CellblockError,
    CellNotFoundError,
    Host,
    HostLostError,
    HostUnavailableError,
    Result,
    Session,
)

from .conftest import PATIENCE

HOSTILE = str(Path(__file__).parents[2] / "tests" / "hostile_host.py")


async def run(way: str, tools: Any = None) -> Result:
    async with Host(command=[sys.executable, HOSTILE, way]) as host:
        async with Session({"tool": lambda: 1} if tools is None else tools, host=host) as session:
            running = session.exec("await tools.tool()")
            return await asyncio.wait_for(running, PATIENCE)


async def test_one_that_keeps_to_it() -> None:
    assert (await run("fine")).value == 5


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("garbage", "a frame of .* bytes"),
        ("huge", "a frame of 4294967295 bytes"),
        ("half", "it ended within a frame"),
        ("not json", "Invalid JSON"),
        ("no object", "should be an object"),
        ("deep", "Invalid JSON"),
        ("other version", "connection/ready"),
        ("no capability", "it lacks the capability cellblock-seam-v1"),
        ("rejects", "it rejected this client: .*invalidHello"),
        ("odd", "it answered with cell/closed"),
        ("logs", "exit code 1: the reason"),
    ],
)
async def test_one_that_is_none(way: str, why: str) -> None:
    with pytest.raises(HostUnavailableError, match=why):
        await run(way)


async def test_one_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellblock._connection.PATIENCE", 0.5)
    with pytest.raises(HostUnavailableError, match="no answer within"):
        await run("silent")


@pytest.mark.parametrize("way", ["never opens", "never starts"])
async def test_one_that_does_not_answer(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellblock._cell.TRANSPORT_TIME", 0.5)
    monkeypatch.setattr("cellblock._session.TRANSPORT_TIME", 0.5)
    with pytest.raises(HostLostError, match="in time"):
        await run(way)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("dies", "signal 9"),
        ("closes half way", "ended within a frame"),
        ("closes its output", "closed the connection"),
        ("first before started", "an answer to an execute that is not one"),
        ("closed for a program", "an answer to an execute that is not one"),
        ("started for nothing", "an answer to the request 99"),
        ("started twice", "an answer to an execute that is not one"),
        ("unknown type", "does not match any of the expected tags"),
        ("second handshake", "a second handshake"),
        ("huge id", "delegate/cancel|Invalid JSON"),
        ("text id", "valid integer"),
        ("same delegate twice", "was made twice"),
        ("too many delegates", "more than 1024"),
        ("no report", "without a report"),
        ("bad value", "broke the protocol"),
        ("deep value", "nests too deeply"),
        ("nan value", "JSON has no NaN"),
        ("bad stored value", "broke the protocol"),
        ("no kind", "a response of no kind"),
        ("bad unicode", "Invalid JSON"),
        ("half a pair", "Invalid JSON"),
    ],
)
async def test_one_that_breaks_it_with_a_program(way: str, why: str) -> None:
    async def tool() -> None:
        await asyncio.sleep(PATIENCE)

    with pytest.raises(HostLostError, match=why):
        await run(way, [tool])


async def test_an_answer_that_comes_twice_fails_nothing_that_was_answered() -> None:
    try:
        assert (await run("answered twice")).status == "completed"
    except HostLostError as error:
        assert "which awaits none" in str(error)


async def test_calls_for_nobody_are_refused() -> None:
    assert (await run("unknown session")).value == 5
    assert (await run("unknown cell")).value == "refused"


async def test_a_cell_that_the_host_has_lost() -> None:
    async with Host(command=[sys.executable, HOSTILE, "missing cell"]) as host:
        async with Session(host=host) as session:
            first = await session.exec("1", yield_after=0)
            with pytest.raises(CellNotFoundError):
                await asyncio.wait_for(session.wait(first), PATIENCE)


@pytest.mark.parametrize("way", ["misses the wait", "misses the end"])
async def test_a_wait_and_a_termination_of_which_one_comes_too_late(way: str) -> None:
    async with Host(command=[sys.executable, HOSTILE, way]) as host:
        async with Session(host=host) as session:
            first = await session.exec("1", yield_after=0)
            waiting = asyncio.create_task(session.wait(first))
            await asyncio.sleep(0)
            ended = await asyncio.wait_for(session.terminate(first), PATIENCE)
            assert ended.status == "terminated"
            assert (await asyncio.wait_for(waiting, PATIENCE)).status == "terminated"


async def test_a_flood_holds_up_nobody_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellblock._session.TRANSPORT_TIME", 0.5)
    flooded = asyncio.create_task(run("floods"))
    async with Session(host=host) as session:
        for n in range(20):
            assert (await session.exec(f"{n}")).value == n
    flooded.cancel()
    with pytest.raises((asyncio.CancelledError, CellblockError)):
        await flooded


async def test_one_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellblock._connection.TRANSPORT_TIME", 1)
    with pytest.raises(HostLostError, match="does not read"):
        await run("does not read", {"tool": lambda: "x" * (5 << 20)})
