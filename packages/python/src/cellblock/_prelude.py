"""What stands in front of every program: with it a call that fails rejects with an `Error`.

By the contract, which others share, it rejects with a string. The prelude stands on the first
line, so that the lines of the program keep their numbers; columns of the first line are set
right in errors.
"""

from __future__ import annotations

import re

PRELUDE = (
    "{const raw=globalThis.tools,all=Object.create(null),E=Error;"
    "for(const name of Object.keys(raw)){const f=raw[name];all[name]=(...given)=>{"
    "const e=new E('');return f(...given).then(undefined,why=>{"
    "if(typeof why!=='string')throw why;e.message=why;"
    r"e.stack=['Error: '+why,...String(e.stack).split('\n').slice(2)].join('\n');"
    "throw e})}}globalThis.tools=all}void 0;"
)

_PLACE = re.compile(r"(exec_main\.mjs:1:)(\d+)")


def prelude_of(program: str) -> str:
    """What stands in front of a program."""
    # One in a Markdown fence does not run, and is best seen as it is by those who say so.
    return "" if program.lstrip().startswith("```") else PRELUDE


def without_prelude(text: str, length: int) -> str:
    """An error's text with the places of the program as its author knows it.

    `length` is that of the prelude.
    """
    lines = [_moved(line, length) for line in text.split("\n")]
    return "\n".join(line for line in lines if line is not None)


def _moved(line: str, length: int) -> str | None:
    """A line with its place set right; `None` for a place within the prelude."""
    place = _PLACE.search(line)
    if place is None:
        return line
    column = int(place[2]) - length
    if column > 0:
        return f"{line[: place.start()]}{place[1]}{column}{line[place.end() :]}"
    return None if line.startswith("    at ") else line
