"""The host's life: started once, restarted when it fails, ended with this process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from cellblock import (
    CellNotFoundError,
    Host,
    HostLostError,
    HostUnavailableError,
    Session,
    StaleCellError,
)

from .conftest import PATIENCE, WAITS, begun, children, eventually


async def test_sessions_share_a_process(host: Host) -> None:
    before = children()
    async with Session(host=host) as one, Session(host=host) as other:
        await asyncio.gather(one.exec("1"), other.exec("1"))
        (process,) = children() - before
        assert Path(f"/proc/{process}/comm").read_text().strip() == "cellblock"


async def test_what_was_in_flight_fails_and_the_next_program_runs(host: Host) -> None:
    before = children()

    async def forever() -> None:
        called.release()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    called, cancelled = asyncio.Semaphore(0), asyncio.Event()
    async with Session([forever], host=host, stored={"kept": 1}) as session:
        yielded = await session.exec(WAITS, yield_after=0)
        running = [asyncio.create_task(session.exec("await tools.forever()")) for _ in range(20)]
        waiting = asyncio.create_task(session.wait(yielded))
        unwatched = await session.exec(WAITS, yield_after=0)
        for _ in running:
            await asyncio.wait_for(called.acquire(), PATIENCE)
        for generation in range(3):
            (process,) = children() - before
            os.kill(process, signal.SIGKILL)
            for task in running:
                with pytest.raises(HostLostError, match="signal 9") as raised:
                    await asyncio.wait_for(task, PATIENCE)
                assert raised.value.code == "host_lost"
            if not generation:
                with pytest.raises(HostLostError):
                    await waiting
                await asyncio.wait_for(cancelled.wait(), PATIENCE)
                # Its numbers start anew with the next host, but a cell's name does not.
                with pytest.raises((HostLostError, StaleCellError, CellNotFoundError)):
                    await session.wait(unwatched)
            result = await session.exec("store('made', 1); load('kept')")
            assert result.value == 1
            assert result.cell_id.startswith("g")
            running = [await begun(session)]
        assert session.stored["made"] == 1
        for task in running:
            task.cancel()


async def test_a_host_that_is_closed_starts_again(host: Host) -> None:
    async with Session(host=host) as session:
        assert (await session.exec("1")).value == 1
        running = await begun(session)
        await host.close()
        # The host says so if it still can.
        try:
            assert (await running).status == "terminated"
        except HostLostError as error:
            assert "closed" in str(error)
        assert (await session.exec("2")).value == 2


async def test_a_host_that_is_forgotten_ends() -> None:
    before = children()
    session: Any = Session(host=Host())
    await session.exec("1")
    with pytest.warns(ResourceWarning):
        del session
        gc.collect()
    eventually(lambda: children() <= before)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nowhere/cellblock"], "No such file"),
        ([sys.executable, "-c", "import sys; sys.exit('it is broken')"], "it is broken"),
        ([sys.executable, "-c", "pass"], "exit code 0"),
    ],
)
async def test_a_host_that_cannot_be_started(command: list[str], why: str) -> None:
    async with Host(command=command) as host, Session(host=host) as session:
        for _ in range(2):
            with pytest.raises(HostUnavailableError, match=why) as raised:
                await asyncio.wait_for(session.exec("1"), PATIENCE)
            assert raised.value.code == "host_unavailable"


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "http://example.org"},
        {"url": "unix:///x", "command": ["x"]},
        {"url": "/tmp/x"},
        {"url": "ws://example.org", "token": "secret"},
        {"url": "unix:///x", "token": "secret"},
        {"token": "secret"},
    ],
)
def test_hosts_that_cannot_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="host|token|unencrypted"):
        Host(**arguments)


def test_two_event_loops_share_a_host() -> None:
    host = Host()
    before = children()

    async def run(session: Session) -> int:
        processes.update(children() - before)
        result = await session.exec("await tools.where()")
        processes.update(children() - before)
        return int(result.value)

    def where() -> int:
        return 5

    processes: set[int] = set()
    session = Session([where], host=host)
    assert [asyncio.run(run(session)) for _ in range(3)] == [5, 5, 5]
    assert len(processes) == 1
    asyncio.run(session.close())
    asyncio.run(host.close())


def test_a_program_that_outlives_its_event_loop_is_ended() -> None:
    host = Host()
    session = Session([], host=host)

    async def start() -> Any:
        return await session.exec("await new Promise((r) => setTimeout(r, 50)); 1", yield_after=0)

    async def wait(first: Any) -> None:
        with pytest.raises(StaleCellError):
            await session.wait(first)
        assert (await session.exec("2")).value == 2
        await session.close()
        await host.close()

    asyncio.run(wait(asyncio.run(start())))


def test_threads_with_event_loops_of_their_own() -> None:
    host = Host()
    session = Session({"name": lambda: threading.current_thread().name}, host=host)
    values: list[Any] = []

    async def run() -> None:
        results = await asyncio.gather(*(session.exec(f"{n}") for n in range(10)))
        values.extend(result.value for result in results)

    threads = [threading.Thread(target=lambda: asyncio.run(run())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(values) == sorted(list(range(10)) * 5)

    async def elsewhere() -> None:
        """A program may be waited for on another event loop than its own."""
        first = await session.exec("await new Promise((r) => setTimeout(r, 50)); 7", yield_after=0)
        result = await asyncio.to_thread(lambda: asyncio.run(session.wait(first)))
        assert result.value == 7
        await session.close()
        await host.close()

    asyncio.run(elsewhere())


def _in_a_fork(queue: Any, session: Session) -> None:
    async def run() -> Any:
        value = (await session.exec("load('x')")).value
        async with Session() as other:
            return [value, (await other.exec("2")).value]

    queue.put(asyncio.run(run()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_fork_has_a_host_of_its_own(host: Host) -> None:
    async with Session(host=host, stored={"x": 1}) as session:
        running = asyncio.create_task(
            session.exec("await new Promise((r) => setTimeout(r, 300)); 3")
        )
        await session.exec("1")
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        fork = context.Process(target=_in_a_fork, args=[queue, session])
        fork.start()
        assert await asyncio.to_thread(queue.get, True, PATIENCE) == [1, 2]
        await asyncio.to_thread(fork.join, PATIENCE)
        assert fork.exitcode == 0
        # The parent's host is as it was.
        assert (await running).value == 3
        assert (await session.exec("4")).value == 4
    queue.close()
    queue.join_thread()
    fork.close()


def run_script(script: str, *, wait: bool = True) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if wait:
        process.wait(PATIENCE)
    return process


@pytest.mark.parametrize(
    "ending",
    ["", "raise SystemExit(0)", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)"],
)
def test_the_host_ends_with_the_interpreter(ending: str) -> None:
    script = f"""
    import asyncio, sys
    from cellblock import Session
    session = Session()
    print(asyncio.run(session.exec("1 + 1")).value, flush=True)
    running = asyncio.new_event_loop()
    running.run_until_complete(session.exec({WAITS!r}, yield_after=0))
    import pathlib
    children = []
    for task in pathlib.Path("/proc/self/task").iterdir():
        children += (task / "children").read_text().split()
    print(*set(children), flush=True)
    running.close()
    {ending}
    """
    process = run_script(script)
    assert process.stdout is not None
    assert process.stderr is not None
    lines = process.stdout.read().split("\n")
    errors = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert lines[0] == "2", errors
    assert "Traceback" not in errors, errors
    pids = [int(pid) for pid in lines[1].split()]
    assert pids
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_the_first_lines_of_a_user_leave_no_complaint() -> None:
    script = """
    import asyncio
    from cellblock import Session

    async def main():
        async with Session({"add": lambda a, b: a + b}) as session:
            print((await session.exec("await tools.add({ a: 1, b: 2 })")).value)

    asyncio.run(main())
    asyncio.run(main())
    """
    process = run_script(script)
    output, errors = process.communicate()
    assert (output, errors, process.returncode) == ("3\n3\n", "", 0)


async def test_ctrl_c_does_not_reach_the_host(host: Host) -> None:
    before = children()
    async with Session(host=host) as session:
        await session.exec("1")
        (process,) = children() - before
        assert os.getpgid(process) != os.getpgid(0)
        assert os.getsid(process) != os.getsid(0)


async def test_the_host_has_no_secrets(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "secret")
    before = children()
    async with Session(host=host) as session:
        await session.exec("1")
        (process,) = children() - before
        assert "SECRET" not in Path(f"/proc/{process}/environ").read_text()


async def test_many_hosts_leave_nothing_behind() -> None:
    for _ in range(5):
        async with Host() as host, Session(host=host) as session:
            assert (await session.exec("1")).value == 1
    own = {"cellblock-read", "cellblock-write", "cellblock-log"}
    eventually(lambda: not any(each.name in own for each in threading.enumerate()))
