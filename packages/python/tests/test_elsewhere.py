"""Hosts elsewhere: Unix sockets, WebSockets, TLS and tokens."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from cellblock import Host, HostLostError, HostUnavailableError, Session
from cellblock._host import binary

from .conftest import PATIENCE, begun

TOKEN = "0123456789abcdef"

Serve = Callable[..., tuple[str, subprocess.Popen[str]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a host that listens; returns its url and its process."""
    started: list[subprocess.Popen[str]] = []

    def start(listen: str, *arguments: str) -> tuple[str, subprocess.Popen[str]]:
        command = [binary(), "host", "--listen", listen, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def add(a: int, b: int) -> int:
    return a + b


async def works(host: Host) -> None:
    async with host, Session([add], host=host, stored={"x": 1}) as session:
        result = await session.exec("store('y', 2); await tools.add({ a: load('x'), b: 2 })")
        assert (result.error, result.value) == (None, 3)
        assert session.stored["y"] == 2
        length = 20 << 20
        program = "(await tools.long()).length"
        result = await session.exec(program, tools={"long": lambda: "x" * length})
        assert result.value == length


async def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    url, _ = serve(f"unix://{tmp_path}/host.sock")
    await works(Host(url))


async def test_a_web_socket(serve: Serve) -> None:
    url, _ = serve("ws://127.0.0.1:0")
    await works(Host(url))


async def test_a_token(serve: Serve, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"me {TOKEN}\n")
    url, _ = serve("ws://127.0.0.1:0", "--token-file", str(tokens))
    await works(Host(url, token=TOKEN))
    for token in (None, "another0123456789"):
        async with Host(url, token=token) as host, Session(host=host) as session:
            with pytest.raises(HostUnavailableError, match="401"):
                await session.exec("1")


async def test_tls_with_certificates_of_both_sides(serve: Serve, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")}
    certificate.private_key_pem.write_to_path(paths["key.pem"])
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(paths["cert.pem"], append=True)
    authority.cert_pem.write_to_path(paths["ca.pem"])
    url, _ = serve(
        "wss://127.0.0.1:0",
        *("--tls-cert", paths["cert.pem"], "--tls-key", paths["key.pem"]),
        *("--client-ca", paths["ca.pem"]),
    )
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    authority.issue_cert("client@example.org").configure_cert(trusted)
    await works(Host(url, tls=trusted))

    without = ssl.create_default_context()
    authority.configure_trust(without)
    distrusted = ssl.create_default_context()
    other.configure_trust(distrusted)
    for tls in (without, distrusted, None):
        async with Host(url, tls=tls) as host, Session(host=host) as session:
            with pytest.raises((HostUnavailableError, HostLostError)):
                await asyncio.wait_for(session.exec("1"), PATIENCE)


async def test_a_host_that_goes_away_and_comes_back(serve: Serve, tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/host.sock"
    url, process = serve(listen)
    async with Host(url) as host, Session([add], host=host) as session:
        assert (await session.exec("1")).value == 1
        running = await begun(session)
        process.kill()
        with pytest.raises(HostLostError):
            await asyncio.wait_for(running, PATIENCE)
        process.wait()
        with pytest.raises(HostUnavailableError, match="refused"):
            await session.exec("1")
        serve(listen)
        assert (await session.exec("2")).value == 2


async def test_limits_of_a_session_do_not_widen_those_of_the_host(serve: Serve) -> None:
    url, _ = serve("ws://127.0.0.1:0", "--limit", "calls=5")
    program = "for (let i = 0; i < 10; i++) await tools.add({ a: 1, b: i })"
    async with Host(url) as host:
        limits: Any
        for limits in (None, {"calls": 8}, {"timers": 1}):
            async with Session([add], host=host, limits=limits) as session:
                result = await session.exec(program)
                assert (result.limit, result.usage.calls) == ("calls", 5)


async def test_nobody_listens(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/nothing", "ws://127.0.0.1:1", "wss://127.0.0.1:1"):
        async with Host(url) as host, Session(host=host) as session:
            with pytest.raises(HostUnavailableError):
                await asyncio.wait_for(session.exec("1"), PATIENCE)


async def test_a_server_that_speaks_something_else() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 smtp.example.org ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Host(f"ws://127.0.0.1:{port}") as host, Session(host=host) as session:
        with pytest.raises(HostUnavailableError):
            await asyncio.wait_for(session.exec("1"), PATIENCE)
    server.close()
    await server.wait_closed()
