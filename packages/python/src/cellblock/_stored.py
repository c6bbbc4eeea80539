"""Values that programs leave for later programs of their session."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ._errors import InvalidRequestError
from ._json import clean, decode, encode
from ._messages import MAX_STORED_BYTES


class StoredValues(MutableMapping[str, Any]):
    """The stored values of a session, as JSON values by key.

    They live in this process. A program sees them as they are when it starts, and what it
    stores is here once it has completed. Reading a key makes a new copy of its value.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._texts: dict[str, str] = {}
        self._size = 0
        self._lock = threading.Lock()
        self.update(values or {})

    def __getitem__(self, key: str) -> Any:
        return decode(self._texts[key])

    def __setitem__(self, key: str, value: Any) -> None:
        if clean(key) != key:
            raise InvalidRequestError(f"the key {key!r} is not valid Unicode")
        text = encode(value, f"stored[{key!r}]")
        with self._lock:
            self._put(key, text)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            self._size -= _size(key, self._texts.pop(key))

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._texts))

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"StoredValues({dict(self)!r})"

    def text(self, key: str) -> str | None:
        """A value as JSON text."""
        return self._texts.get(key)

    def texts(self) -> dict[str, str]:
        """The values as they are now, as JSON texts.

        Raises:
            InvalidRequestError: They are larger than a host takes.
        """
        with self._lock:
            if self._size > MAX_STORED_BYTES:
                raise InvalidRequestError(
                    f"the stored values are {self._size} bytes, and at most "
                    f"{MAX_STORED_BYTES} may be; remove some from `stored`"
                )
            return dict(self._texts)

    def merge(self, written: Mapping[str, str]) -> None:
        """Takes over what a program has stored.

        Raises:
            ValueError: A value is not valid JSON.
        """
        for text in written.values():
            decode(text)
        with self._lock:
            for key, text in written.items():
                self._put(key, text)

    def _put(self, key: str, text: str) -> None:
        before = self._texts.get(key)
        self._size += _size(key, text) - (0 if before is None else _size(key, before))
        self._texts[key] = text


def delta(before: Mapping[str, str] | None, now: Mapping[str, str]) -> dict[str, Any]:
    """What `now` differs in from `before`, for the host; `None` is not known."""
    if before is None:
        return {"replace": True, "set": dict(now)}
    changed: dict[str, Any] = {
        "set": {key: text for key, text in now.items() if before.get(key) != text},
        "removed": [key for key in before if key not in now],
    }
    return {name: value for name, value in changed.items() if value}


def _size(key: str, text: str) -> int:
    return len(key.encode()) + len(text.encode())
