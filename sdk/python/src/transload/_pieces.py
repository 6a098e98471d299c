"""What is sent: files and bytes from anywhere, in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Protocol, runtime_checkable

from ._calls import PIECE, Meter


@runtime_checkable
class Readable(Protocol):
    """Something like a file."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes; none at the end."""
        ...


UploadSource = str | os.PathLike[str] | bytes | Readable | Iterable[bytes]
AsyncUploadSource = UploadSource | AsyncIterable[bytes]


@contextlib.contextmanager
def opened(source: UploadSource) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """The pieces of a source, and how many bytes they are where that can be seen."""
    if isinstance(source, bytes):
        yield (source[at : at + PIECE] for at in range(0, len(source), PIECE)), len(source)
    elif isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield _read(file), os.fstat(file.fileno()).st_size
    elif isinstance(source, Readable):
        yield _read(source), None
    else:
        yield source, None


@contextlib.asynccontextmanager
async def opened_async(source: AsyncUploadSource) -> AsyncIterator[tuple[AsyncIterable[bytes], int | None]]:
    """As `opened`; files are read on a thread, so that nothing waits for the disk."""
    if isinstance(source, AsyncIterable):
        yield source, None
        return
    with opened(source) as (pieces, length):
        yield _threaded(iter(pieces)), length


def counted(pieces: Iterable[bytes], meter: Meter) -> Iterator[bytes]:
    """The pieces, counted when they have been taken."""
    for piece in pieces:
        yield piece
        meter.advance(len(piece))


async def counted_async(pieces: AsyncIterable[bytes], meter: Meter) -> AsyncIterator[bytes]:
    """As `counted`."""
    async for piece in pieces:
        yield piece
        meter.advance(len(piece))


def _read(file: Readable) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
