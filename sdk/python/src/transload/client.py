"""The client for ordinary code."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Unpack

import httpx

from . import _calls as calls
from ._calls import Call, Meter, ProgressCallback
from ._events import Parser
from ._partial import Partial
from ._pieces import UploadSource, counted, opened
from .errors import Busy, ConnectionFailed, WaitTimeout
from .models import Converted, Digest, Event, FileEntry, Format, Image, Inspection, Job, Server, TreeEntry, Upload
from .requests import (
    ArchiveOptions,
    CheckOptions,
    ConvertOptions,
    DigestName,
    DigestOptions,
    DownloadOptions,
    ExportOptions,
    Hypervisor,
    ImportOptions,
    StreamOptions,
    ValidateOptions,
)

T = TypeVar("T")



class Client:
    """A Transload service.

    `token` is taken from the environment variable `TRANSLOAD_TOKEN` when it is not given. Requests that change nothing are tried `retries`
    times more when the service is busy or not reached.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 2,
        verify: bool | ssl.SSLContext = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=base_url,
            headers=calls.headers(calls.token_of_environment(token)),
            timeout=timeout,
            verify=verify,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # What there is

    def server(self) -> Server:
        """What the service is, and as whom it knows the caller."""
        return self._call(calls.server())

    def formats(self) -> list[Format]:
        """What can be read and written."""
        return self._call(calls.formats()).formats

    def files(self, path: str = "") -> Iterator[FileEntry]:
        """What is in a folder below the service's root, in the order of names."""
        after: str | None = None
        while True:
            page = self._call(calls.files(path, after))
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            after = page.next

    # Images

    def info(self, path: str, *, src: str | None = None) -> Image:
        """What an image says of itself."""
        return self._call(calls.info(path, src))

    def inspect(self, path: str, *, src: str | None = None) -> Inspection:
        """What stands on an image: partitions, filesystems, systems."""
        return self._call(calls.inspect(path, src))

    def ls(
        self, path: str, folder: str = "/", *, volume: str | None = None, src: str | None = None
    ) -> Iterator[TreeEntry]:
        """What is in a folder of a filesystem in an image, in the order of names."""
        after: str | None = None
        while True:
            page = self._call(calls.tree(path, volume, folder, src, after))
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            after = page.next

    # In one pass

    def upload(
        self,
        source: UploadSource,
        *,
        name: str | None = None,
        size: int | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[StreamOptions],
    ) -> Converted:
        """Converts a file, or bytes that come from anywhere, while they are sent.

        `name` is where the new image is to be below the service's root. `size` says how many bytes come where that cannot be seen.
        """
        with opened(source) as (pieces, length):
            call = calls.upload(name, None if length is not None else size, options)
            return self._put(call, pieces, length, Meter(length if length is not None else size, progress))

    def keep(
        self, source: UploadSource, *, name: str | None = None, progress: ProgressCallback | None = None
    ) -> Upload:
        """Stores a file as it is until jobs take it: `upload_id(upload.id)` names it as their source."""
        with opened(source) as (pieces, length):
            return self._put(calls.keep(name), pieces, length, Meter(length, progress))

    def uploads(self) -> list[Upload]:
        """The files that are kept, the newest first."""
        return self._call(calls.uploads()).uploads

    def drop(self, upload: Upload | str) -> None:
        """Removes a file that is kept."""
        self._call(calls.drop(upload if isinstance(upload, str) else upload.id))

    def _put(self, call: Call[T], pieces: Iterable[bytes], length: int | None, meter: Meter) -> T:
        headers = {"content-type": "application/octet-stream"}
        if length is not None:
            headers["content-length"] = str(length)
        request = self._request(call, headers=headers, content=counted(pieces, meter), timeout=None)
        made = call.answer(calls.body(self._send(request)))
        meter.end()
        return made

    def import_url(self, url: str, *, name: str | None = None, **options: Unpack[StreamOptions]) -> Converted:
        """Converts what is at an address, which the service fetches."""
        call = calls.import_url(url, name, options)
        return call.answer(calls.body(self._send(self._request(call, timeout=None))))

    def download(
        self,
        path: str,
        to: str | os.PathLike[str],
        *,
        dst: str | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[DownloadOptions],
    ) -> Path:
        """Stores a file of the service at `to`, converted on the way when `dst` names a format; returns where it is.

        The file appears when it is whole. A download of a file as it is goes on where it broke off.
        """
        call = calls.content(path) if dst is None else calls.export(path, dst, options)
        with Partial(to, path.rsplit("/", 1)[-1]) as partial:
            for attempt in range(self._retries + 1):
                try:
                    self._fetch(call, partial, progress)
                    return partial.commit()
                except (ConnectionFailed, Busy) as error:
                    if attempt == self._retries:
                        raise
                    time.sleep(calls.pause(attempt, error))
            raise AssertionError("the last attempt returns or raises")

    def _fetch(self, call: Call[None], partial: Partial, progress: ProgressCallback | None) -> None:
        request = self._request(call, headers=partial.headers())
        with self._stream(request) as response, _translated():
            partial.begin(response)
            meter = Meter(partial.total, progress)
            meter.done = partial.position
            for piece in response.iter_raw():
                partial.write(piece)
                meter.advance(len(piece))
            meter.end()

    # Jobs

    def submit(self, request: dict[str, object]) -> Job:
        """Puts a job into the queue, as the service's document describes one."""
        return self._call(calls.submit(request))

    def job(self, job: Job | str) -> Job:
        """A job as it stands now."""
        return self._call(calls.job(calls.id_of(job)))

    def jobs(
        self,
        *,
        state: str | list[str] | None = None,
        kind: str | list[str] | None = None,
        text: str | None = None,
        oldest_first: bool = False,
    ) -> Iterator[Job]:
        """The jobs, the newest first; with some states, kinds, or a text in their source, target or name."""
        after: str | None = None
        order = "oldest" if oldest_first else None
        while True:
            page = self._call(calls.jobs(calls.words(state), calls.words(kind), text, after, order))
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            after = page.next

    def cancel(self, job: Job | str) -> Job:
        """Stops a job; nothing of what it was making is left."""
        return self._call(calls.cancel(calls.id_of(job)))

    def retry(self, job: Job | str) -> Job:
        """Puts a job that failed or was cancelled back into the queue."""
        return self._call(calls.retry(calls.id_of(job)))

    def forget(self, job: Job | str) -> None:
        """Takes a job that has ended off the list."""
        self._call(calls.forget(calls.id_of(job)))

    def events(self, job: Job | str, *, after: int = 0) -> Iterator[Event]:
        """What happens to a job, until it has ended. A connection that breaks off is made again, and nothing is missed."""
        for event in self._events(calls.id_of(job), after, None):
            yield event

    def wait(
        self, job: Job | str, *, progress: ProgressCallback | None = None, timeout: float | None = None
    ) -> Job:
        """Waits until a job has ended well, and returns it.

        Raises `JobFailed`, `JobCancelled`, or `WaitTimeout` after `timeout` seconds; the job goes on then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        now = self.job(job)
        if progress:
            progress(now.progress)
        if not now.is_over:
            for event in self._events(now.id, now.last_event, deadline):
                if progress and event.progress:
                    progress(event.progress)
            now = self.job(now)
            if not now.is_over:
                raise WaitTimeout(now)
            if progress:
                progress(now.progress)
        return calls.ended(now)

    def _events(self, id: str, after: int, deadline: float | None) -> Iterator[Event]:
        failures = 0
        while True:
            left = calls.SILENCE if deadline is None else min(deadline - time.monotonic(), calls.SILENCE)
            if left <= 0:
                return
            try:
                timeout = httpx.Timeout(self._timeout, read=left)
                with self._stream(self._request(calls.events(id, after), timeout=timeout)) as response:
                    parser = Parser()
                    for piece in _translating(response.iter_raw()):
                        for event in parser.feed(piece):
                            failures, after = 0, event.id
                            yield event
                        if deadline is not None and time.monotonic() >= deadline:
                            return
            except (ConnectionFailed, Busy) as error:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                failures += 1
                if failures > self._retries:
                    raise
                time.sleep(calls.pause(failures, error))
                continue
            # The stream ends with the job; after a retry it ends with an attempt before.
            if self.job(id).is_over:
                return

    def _verb(self, call: Call[Job], wait: bool, progress: ProgressCallback | None, timeout: float | None) -> Job:
        job = self._call(call)
        return self.wait(job, progress=progress, timeout=timeout) if wait else job

    # The verbs of the command line, as jobs

    def convert(
        self,
        source: str,
        target: str,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ConvertOptions],
    ) -> Job:
        """Writes a disk image in another format. Source and target are paths below the root, or addresses."""
        return self._verb(calls.verb("convert", source, target, options), wait, progress, timeout)

    def export(
        self,
        source: str,
        target: str,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ExportOptions],
    ) -> Job:
        """Packs a machine (`.vmx`, `.ovf`, libvirt's `.xml`) and its disks into an OVA."""
        return self._verb(calls.verb("export", source, target, options), wait, progress, timeout)

    def import_(
        self,
        source: str,
        target: str,
        to: Hypervisor,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ImportOptions],
    ) -> Job:
        """Unpacks an OVA for a hypervisor."""
        return self._verb(calls.verb("import", source, target, options, to=to), wait, progress, timeout)

    def validate(
        self,
        source: str,
        importers: Iterable[str] = (),
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ValidateOptions],
    ) -> Job:
        """Judges an OVA; `result.sound` says whether nothing is wrong."""
        call = calls.verb("validate", source, None, options, **{"for": list(importers)})
        return self._verb(call, wait, progress, timeout)

    def digest(
        self,
        source: str,
        algorithm: DigestName = "sha256",
        *,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[DigestOptions],
    ) -> Digest:
        """The digest of the bytes that a guest sees."""
        call = calls.verb("digest", source, None, options, algorithm=algorithm)
        return calls.digest_of(self._verb(call, True, progress, timeout))

    def check(
        self,
        source: str,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[CheckOptions],
    ) -> Job:
        """Checks the metadata of an image; `result.sound` says whether nothing is wrong."""
        return self._verb(calls.verb("check", source, None, options), wait, progress, timeout)

    def archive(
        self,
        source: str,
        target: str,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ArchiveOptions],
    ) -> Job:
        """Puts the files of a disk into an archive."""
        return self._verb(calls.verb("archive", source, target, options), wait, progress, timeout)

    # Requests

    def _call(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            try:
                return call.answer(calls.body(self._send(self._request(call))))
            except (ConnectionFailed, Busy) as error:
                # What was refused as there is too much to do was not begun.
                if attempt == self._retries or not (call.is_repeatable or isinstance(error, Busy)):
                    raise
                time.sleep(calls.pause(attempt, error))
                attempt += 1

    def _request(
        self,
        call: Call[T],
        *,
        headers: dict[str, str] | None = None,
        content: Iterable[bytes] | None = None,
        timeout: float | httpx.Timeout | None | httpx._client.UseClientDefault = httpx.USE_CLIENT_DEFAULT,
    ) -> httpx.Request:
        return self._http.build_request(
            call.operation.method,
            call.url,
            params=call.parameters,
            headers=headers,
            content=content,
            json=call.body,
            timeout=timeout,
        )

    def _send(self, request: httpx.Request) -> httpx.Response:
        with _translated():
            response = self._http.send(request)
        if response.is_success:
            return response
        raise calls.failure(response, response.content)

    @contextlib.contextmanager
    def _stream(self, request: httpx.Request) -> Iterator[httpx.Response]:
        with _translated():
            response = self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with _translated():
                    content = response.read()
                raise calls.failure(response, content)
            yield response
        finally:
            response.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ConnectionFailed(str(error) or type(error).__name__) from error


def _translating(pieces: Iterator[bytes]) -> Iterator[bytes]:
    with _translated():
        for piece in pieces:
            yield piece
