"""The client for asyncio: the same methods as those of `Client`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Unpack

import httpx

from . import _calls as calls
from ._calls import Call, Meter, ProgressCallback
from ._events import Parser
from ._partial import Partial
from ._pieces import AsyncUploadSource, counted_async, opened_async
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



class AsyncClient:
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=calls.headers(calls.token_of_environment(token)),
            timeout=timeout,
            verify=verify,
            transport=transport,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    # What there is

    async def server(self) -> Server:
        """What the service is, and as whom it knows the caller."""
        return await self._call(calls.server())

    async def formats(self) -> list[Format]:
        """What can be read and written."""
        return (await self._call(calls.formats())).formats

    async def files(self, path: str = "") -> AsyncIterator[FileEntry]:
        """What is in a folder below the service's root, in the order of names."""
        after: str | None = None
        while True:
            page = await self._call(calls.files(path, after))
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            after = page.next

    # Images

    async def info(self, path: str, *, src: str | None = None) -> Image:
        """What an image says of itself."""
        return await self._call(calls.info(path, src))

    async def inspect(self, path: str, *, src: str | None = None) -> Inspection:
        """What stands on an image: partitions, filesystems, systems."""
        return await self._call(calls.inspect(path, src))

    async def ls(
        self, path: str, folder: str = "/", *, volume: str | None = None, src: str | None = None
    ) -> AsyncIterator[TreeEntry]:
        """What is in a folder of a filesystem in an image, in the order of names."""
        after: str | None = None
        while True:
            page = await self._call(calls.tree(path, volume, folder, src, after))
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            after = page.next

    # In one pass

    async def upload(
        self,
        source: AsyncUploadSource,
        *,
        name: str | None = None,
        size: int | None = None,
        progress: ProgressCallback | None = None,
        **options: Unpack[StreamOptions],
    ) -> Converted:
        """Converts a file, or bytes that come from anywhere, while they are sent.

        `name` is where the new image is to be below the service's root. `size` says how many bytes come where that cannot be seen.
        """
        async with opened_async(source) as (pieces, length):
            call = calls.upload(name, None if length is not None else size, options)
            return await self._put(call, pieces, length, Meter(length if length is not None else size, progress))

    async def keep(
        self, source: AsyncUploadSource, *, name: str | None = None, progress: ProgressCallback | None = None
    ) -> Upload:
        """Stores a file as it is until jobs take it: `upload_id(upload.id)` names it as their source."""
        async with opened_async(source) as (pieces, length):
            return await self._put(calls.keep(name), pieces, length, Meter(length, progress))

    async def uploads(self) -> list[Upload]:
        """The files that are kept, the newest first."""
        return (await self._call(calls.uploads())).uploads

    async def drop(self, upload: Upload | str) -> None:
        """Removes a file that is kept."""
        await self._call(calls.drop(upload if isinstance(upload, str) else upload.id))

    async def _put(self, call: Call[T], pieces: AsyncIterable[bytes], length: int | None, meter: Meter) -> T:
        headers = {"content-type": "application/octet-stream"}
        if length is not None:
            headers["content-length"] = str(length)
        request = self._request(call, headers=headers, content=counted_async(pieces, meter), timeout=None)
        made = call.answer(calls.body(await self._send(request)))
        meter.end()
        return made

    async def import_url(self, url: str, *, name: str | None = None, **options: Unpack[StreamOptions]) -> Converted:
        """Converts what is at an address, which the service fetches."""
        call = calls.import_url(url, name, options)
        return call.answer(calls.body(await self._send(self._request(call, timeout=None))))

    async def download(
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
                    await self._fetch(call, partial, progress)
                    return partial.commit()
                except (ConnectionFailed, Busy) as error:
                    if attempt == self._retries:
                        raise
                    await asyncio.sleep(calls.pause(attempt, error))
            raise AssertionError("the last attempt returns or raises")

    async def _fetch(self, call: Call[None], partial: Partial, progress: ProgressCallback | None) -> None:
        request = self._request(call, headers=partial.headers())
        async with self._stream(request) as response, _translated():
            partial.begin(response)
            meter = Meter(partial.total, progress)
            meter.done = partial.position
            async for piece in response.aiter_raw():
                partial.write(piece)
                meter.advance(len(piece))
            meter.end()

    # Jobs

    async def submit(self, request: dict[str, object]) -> Job:
        """Puts a job into the queue, as the service's document describes one."""
        return await self._call(calls.submit(request))

    async def job(self, job: Job | str) -> Job:
        """A job as it stands now."""
        return await self._call(calls.job(calls.id_of(job)))

    async def jobs(
        self,
        *,
        state: str | list[str] | None = None,
        kind: str | list[str] | None = None,
        text: str | None = None,
        oldest_first: bool = False,
    ) -> AsyncIterator[Job]:
        """The jobs, the newest first; with some states, kinds, or a text in their source, target or name."""
        after: str | None = None
        order = "oldest" if oldest_first else None
        while True:
            page = await self._call(calls.jobs(calls.words(state), calls.words(kind), text, after, order))
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            after = page.next

    async def cancel(self, job: Job | str) -> Job:
        """Stops a job; nothing of what it was making is left."""
        return await self._call(calls.cancel(calls.id_of(job)))

    async def retry(self, job: Job | str) -> Job:
        """Puts a job that failed or was cancelled back into the queue."""
        return await self._call(calls.retry(calls.id_of(job)))

    async def forget(self, job: Job | str) -> None:
        """Takes a job that has ended off the list."""
        await self._call(calls.forget(calls.id_of(job)))

    async def events(self, job: Job | str, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens to a job, until it has ended. A connection that breaks off is made again, and nothing is missed."""
        async for event in self._events(calls.id_of(job), after, None):
            yield event

    async def wait(
        self, job: Job | str, *, progress: ProgressCallback | None = None, timeout: float | None = None
    ) -> Job:
        """Waits until a job has ended well, and returns it.

        Raises `JobFailed`, `JobCancelled`, or `WaitTimeout` after `timeout` seconds; the job goes on then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        now = await self.job(job)
        if progress:
            progress(now.progress)
        if not now.is_over:
            async for event in self._events(now.id, now.last_event, deadline):
                if progress and event.progress:
                    progress(event.progress)
            now = await self.job(now)
            if not now.is_over:
                raise WaitTimeout(now)
            if progress:
                progress(now.progress)
        return calls.ended(now)

    async def _events(self, id: str, after: int, deadline: float | None) -> AsyncIterator[Event]:
        failures = 0
        while True:
            left = calls.SILENCE if deadline is None else min(deadline - time.monotonic(), calls.SILENCE)
            if left <= 0:
                return
            try:
                timeout = httpx.Timeout(self._timeout, read=left)
                async with self._stream(self._request(calls.events(id, after), timeout=timeout)) as response:
                    parser = Parser()
                    async for piece in _translating(response.aiter_raw()):
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
                await asyncio.sleep(calls.pause(failures, error))
                continue
            # The stream ends with the job; after a retry it ends with an attempt before.
            if (await self.job(id)).is_over:
                return

    async def _verb(self, call: Call[Job], wait: bool, progress: ProgressCallback | None, timeout: float | None) -> Job:
        job = await self._call(call)
        return await self.wait(job, progress=progress, timeout=timeout) if wait else job

    # The verbs of the command line, as jobs

    async def convert(
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
        return await self._verb(calls.verb("convert", source, target, options), wait, progress, timeout)

    async def export(
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
        return await self._verb(calls.verb("export", source, target, options), wait, progress, timeout)

    async def import_(
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
        return await self._verb(calls.verb("import", source, target, options, to=to), wait, progress, timeout)

    async def validate(
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
        return await self._verb(call, wait, progress, timeout)

    async def digest(
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
        return calls.digest_of(await self._verb(call, True, progress, timeout))

    async def check(
        self,
        source: str,
        *,
        wait: bool = True,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[CheckOptions],
    ) -> Job:
        """Checks the metadata of an image; `result.sound` says whether nothing is wrong."""
        return await self._verb(calls.verb("check", source, None, options), wait, progress, timeout)

    async def archive(
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
        return await self._verb(calls.verb("archive", source, target, options), wait, progress, timeout)

    # Requests

    async def _call(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            try:
                return call.answer(calls.body(await self._send(self._request(call))))
            except (ConnectionFailed, Busy) as error:
                # What was refused as there is too much to do was not begun.
                if attempt == self._retries or not (call.is_repeatable or isinstance(error, Busy)):
                    raise
                await asyncio.sleep(calls.pause(attempt, error))
                attempt += 1

    def _request(
        self,
        call: Call[T],
        *,
        headers: dict[str, str] | None = None,
        content: AsyncIterable[bytes] | None = None,
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

    async def _send(self, request: httpx.Request) -> httpx.Response:
        async with _translated():
            response = await self._http.send(request)
        if response.is_success:
            return response
        raise calls.failure(response, response.content)

    @contextlib.asynccontextmanager
    async def _stream(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        async with _translated():
            response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                async with _translated():
                    content = await response.aread()
                raise calls.failure(response, content)
            yield response
        finally:
            await response.aclose()


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ConnectionFailed(str(error) or type(error).__name__) from error


async def _translating(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with _translated():
        async for piece in pieces:
            yield piece
