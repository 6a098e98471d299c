"""A file that appears under its name when it is whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

import httpx

from . import _calls
from .errors import ProtocolError


class Partial:
    """A download, stored under another name until it is whole; gone when it never is."""

    def __init__(self, to: str | os.PathLike[str], otherwise: str) -> None:
        self._to, self._otherwise = Path(to), otherwise
        folder = self._to if self._to.is_dir() else self._to.parent
        handle, name = tempfile.mkstemp(prefix=".transload-", suffix=".partial", dir=folder)
        self._file, self._name = os.fdopen(handle, "wb"), Path(name)
        self._etag: str | None = None
        self.position = 0
        self.total: int | None = None

    def headers(self) -> dict[str, str]:
        """What asks for the rest."""
        if self.position == 0 or self._etag is None:
            return {}
        return {"range": f"bytes={self.position}-", "if-range": self._etag}

    def begin(self, response: httpx.Response) -> None:
        """Takes what an answer says: the rest, or everything from the beginning."""
        if response.status_code == 206:
            begins = f"bytes {self.position}-"
            if not response.headers.get("content-range", "").startswith(begins):
                raise ProtocolError(f"another range was answered than the one from {self.position}")
        else:
            self.position = 0
            self._file.seek(0)
            self._file.truncate()
        self._etag = response.headers.get("etag")
        length = response.headers.get("content-length")
        self.total = None if length is None else self.position + int(length)
        if self._to.is_dir():
            self._to = self._to / _calls.file_name(response, self._otherwise)

    def write(self, piece: bytes) -> None:
        """Puts the next bytes."""
        self._file.write(piece)
        self.position += len(piece)

    def commit(self) -> Path:
        """Gives it its name; returns where it is."""
        if self.total is not None and self.position != self.total:
            raise ProtocolError(f"{self.position} bytes of {self.total} came")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        umask = os.umask(0)
        os.umask(umask)
        self._name.chmod(0o666 & ~umask)
        self._name.replace(self._to)
        return self._to

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._name.unlink(missing_ok=True)
