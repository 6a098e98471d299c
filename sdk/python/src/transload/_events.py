"""Server-sent events, without any I/O of their own."""

from __future__ import annotations

import json

from ._decode import decode
from .errors import ProtocolError
from .models import Event

_LONGEST = 16 << 20


class Parser:
    """Takes the bytes of a stream and gives its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        # By line feeds alone: JSON may hold what Unicode calls a line end besides.
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise ProtocolError(f"a line of an event stream is longer than {_LONGEST} bytes")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line == b"" and self._data:
                events.append(_event(b"\n".join(self._data)))
                self._data = []
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        return events


def _event(data: bytes) -> Event:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ProtocolError(f"an event is no JSON: {error}") from error
    return decode(Event, value, "an event")
