"""What the guide and the README say first is true, in a process and a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["docs/python.md", "packages/python/README.md"])
def test_the_first_program_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    text = (REPOSITORY / page).read_text()
    found = re.search(r"```python\n(.*?)```.*?prints `([^`]*)`", text, re.S)
    assert found is not None
    program, printed = found.groups()
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    (tmp_path / "program.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == (f"{printed}\n", "", 0)


def test_the_guide_lists_every_error() -> None:
    import cellblock

    text = (REPOSITORY / "docs/python.md").read_text()
    for name in cellblock.__all__:
        kind = getattr(cellblock, name)
        if isinstance(kind, type) and issubclass(kind, cellblock.CellblockError):
            if kind is cellblock.CellblockError:
                continue
            assert f"`{name}`" in text, name
            assert f"`{kind.code}`" in text, name
