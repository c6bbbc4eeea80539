"""The examples print what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[4] / "examples" / "python"

PRINTED = {
    "with_pydantic_ai.py": "The cheapest is the plum.\n",
    "with_langchain.py": (
        "asked: {'flight': 'LX 318'}\n"
        'program: Result:\n"booked LX 318"\n'
        "model: Your flight is booked.\n"
    ),
    "with_fastmcp.py": "execute get_schema search\n[2,4,6]\n",
    "with_openai_agents.py": "Result:\n60\n",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_an_example(name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == (PRINTED[name], 0), ran.stderr
