"""Compares Cellblock with other sandboxes of Python and of Node, in one run.

    compare.py --python PYTHON --node NODE [--only NAME]

Prints a table in Markdown. `run.sh` installs what is compared and calls it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

MOST_KIB = 1 << 20
"""Memory of all processes together beyond which a program is not contained."""

PATIENCE = 12.0
"""Seconds of a task with a hostile program, which may run for one."""

# What the programs of the project's suite call that other sandboxes lack.
OURS = (
    "text",
    "image",
    "audio",
    "store",
    "load",
    "notify",
    "tools",
    "yield_control",
    "exit(",
    "setTimeout",
)

PYTHON_PROGRAMS = {
    "loop": "while True: pass",
    "alloc": "a = []\nwhile True: a.append([0] * 10000)",
    "bigstr": "s = 'x'\nwhile True: s = s + s",
    "repeat": "'x' * 10 ** 11",
    "recurse": "def f(n): return f(n + 1) + 1\nf(0)",
    "bigint": "x = 3\nwhile True: x = x * x",
    "pow": "2 ** (2 ** 40)",
    "shift": "1 << (1 << 40)",
    "list": "[0] * 10 ** 11",
    "sort": "sorted([i % 7 for i in range(10 ** 9)])",
    "nest": "a = []\nfor i in range(10 ** 6): a = [a]\nstr(a)",
    "join": "','.join(['x' * 1000] * 10 ** 8)",
    "replace": "s = 'a' * 10 ** 5\nwhile True: s = s.replace('a', 'aa')",
    "dict": "d = {}\ni = 0\nwhile True:\n    d[i] = i\n    i += 1",
    "catch": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "catch-memory": "while True:\n    try: [0] * 10 ** 10\n    except BaseException: pass",
    "catch-stack": "def f():\n    try: f()\n    except BaseException: f()\nf()",
    "range": "list(range(10 ** 12))",
    "format": "'%1000000000d' % 1",
    "eval-nest": "(" * 10**5 + ")" * 10**5,
}


class Contestant:
    """A sandbox, and how it is asked."""

    def __init__(self, title: str, command: list[str], programs: dict[str, str]) -> None:
        self.title = title
        self.command = command
        self.programs = programs

    def ask(self, task: str) -> float:
        """A figure."""
        with tempfile.TemporaryFile("w+") as printed:
            # A file, because processes that it leaves behind would keep a pipe open.
            process = subprocess.Popen(
                [*self.command, task], stdout=printed, stderr=subprocess.STDOUT, text=True
            )
            try:
                process.wait(300)
            finally:
                kill(process.pid)
            printed.seek(0)
            text = printed.read().strip()
        try:
            # How it ends afterwards is not what is measured.
            return float(json.loads(text.split("\n")[-1]))
        except ValueError:
            raise RuntimeError(f"{self.title}: {task}: {text[-500:]}") from None

    def contains(self, program: str) -> bool:
        """Whether a program is contained: its process lives, answers in time, and stays small."""
        process = subprocess.Popen(
            [*self.command, "hostile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("it has no standard streams")
        try:
            process.stdin.write(program)
            process.stdin.close()
        except BrokenPipeError:
            return False
        until = time.monotonic() + PATIENCE
        small = True
        while process.poll() is None and small and time.monotonic() < until:
            small = resident_kib(process.pid) < MOST_KIB
            time.sleep(0.02)
        if process.poll() is None:
            kill(process.pid)
            process.wait()
        answer = process.stdout.read().strip()
        process.stdout.close()
        return small and process.returncode == 0 and answer.endswith("true")


def processes(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def resident_kib(pid: int) -> float:
    """Memory of a process and all that it has started."""
    total = 0.0
    for each in processes(pid):
        try:
            status = Path(f"/proc/{each}/status").read_text()
            total += float(status.split("VmRSS:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total


def kill(pid: int) -> None:
    """Ends a process and all that it has started."""
    numbers = [str(each) for each in reversed(processes(pid))]
    subprocess.run(["kill", "-9", *numbers], check=False, stderr=subprocess.DEVNULL)  # noqa: S607


def main() -> None:
    """Measures everything and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--node", default="node")
    parser.add_argument("--modules", type=Path, required=True, help="a copy of contestants.mjs")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    suite = json.loads((REPOSITORY / "tests/hostile/programs.json").read_text())
    scripts = {
        name: program for name, program in suite.items() if not any(own in program for own in OURS)
    }
    # A program that only awaits is one for the sandboxes' own top level.
    plain = {name: each for name, each in scripts.items() if "await" not in each}
    python = [arguments.python, str(HERE / "contestants.py")]
    node = [arguments.node, "--expose-gc", "--no-node-snapshot", str(arguments.modules)]
    contestants = [
        Contestant("Cellblock, Python", [*python, "cellblock"], plain),
        Contestant("quickjs-rs", [*python, "quickjs-rs"], plain),
        Contestant(
            "pydantic-monty (Python programs)", [*python, "pydantic-monty"], PYTHON_PROGRAMS
        ),
        Contestant("Cellblock, Node", [*node, "cellblock"], plain),
        Contestant("quickjs-wasi", [*node, "quickjs-wasi"], plain),
        Contestant("isolated-vm", [*node, "isolated-vm"], plain),
    ]
    print("| | start | awaited call | a program that waits | hostile programs contained |")
    print("|---|---|---|---|---|")
    for contestant in contestants:
        if arguments.only not in contestant.title:
            continue
        start, call, park = (contestant.ask(task) for task in ("start", "call", "park"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            held = pool.map(contestant.contains, contestant.programs.values())
        let_go = [name for name, each in zip(contestant.programs, held, strict=True) if not each]
        contained = len(contestant.programs) - len(let_go)
        print(
            f"| {contestant.title} | {start:.2f} ms | {call:.3f} ms | {park:,.0f} KiB "
            f"| {contained} of {len(contestant.programs)} |",
            flush=True,
        )
        if let_go:
            print(f"{contestant.title}: not contained: {', '.join(let_go)}", file=sys.stderr)


if __name__ == "__main__":
    main()
