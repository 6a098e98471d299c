"""Requests and what their answers mean, without any I/O: what the two clients share."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote

import httpx

from ._decode import decode
from .errors import KINDS, ApiError, Busy, JobCancelled, JobFailed, ProtocolError
from .models import (
    Converted,
    Digest,
    FilePage,
    FormatList,
    Image,
    Inspection,
    Job,
    JobPage,
    Progress,
    Server,
    TreePage,
    Upload,
    UploadList,
)
from .requests import document, location

T = TypeVar("T")

ProgressCallback = Callable[[Progress], object]

PIECE = 1 << 20
"""Bytes that are read of a file at once."""

SILENCE = 45.0
"""Seconds without a byte after which a stream of events is taken for dead; the service speaks every 15."""


@dataclass(frozen=True)
class Operation:
    """A route of the service, and the parameters of its query that are used."""

    method: str
    path: str
    query: tuple[str, ...] = ()


_STREAM = ("src", "dst", "prealloc", "compress", "level", "options", "digest", "force")

SERVER = Operation("GET", "/v1/server")
FORMATS = Operation("GET", "/v1/formats")
FILES = Operation("GET", "/v1/files", ("path", "after", "limit"))
CONTENT = Operation("GET", "/v1/files/content", ("path",))
INFO = Operation("GET", "/v1/images/info", ("path", "src"))
INSPECT = Operation("GET", "/v1/images/inspect", ("path", "src"))
TREE = Operation("GET", "/v1/images/tree", ("path", "src", "volume", "folder", "after", "limit"))
UPLOAD = Operation("POST", "/upload", (*_STREAM, "name", "size"))
IMPORT = Operation("POST", "/import", ("url", "name", *_STREAM))
EXPORT = Operation("GET", "/export", ("path", "src", "dst", "compress", "level", "options"))
SUBMIT = Operation("POST", "/v1/jobs")
JOBS = Operation("GET", "/v1/jobs", ("state", "kind", "text", "limit", "after", "order"))
JOB = Operation("GET", "/v1/jobs/{id}")
CANCEL = Operation("DELETE", "/v1/jobs/{id}", ("forget",))
RETRY = Operation("POST", "/v1/jobs/{id}/retry")
UPLOADS = Operation("GET", "/v1/uploads")
KEEP = Operation("POST", "/v1/uploads", ("name",))
DROP = Operation("DELETE", "/v1/uploads/{id}")
EVENTS = Operation("GET", "/v1/jobs/{id}/events", ("after",))

OPERATIONS = (
    SERVER, FORMATS, FILES, CONTENT, INFO, INSPECT, TREE, UPLOAD, IMPORT, EXPORT, SUBMIT, JOBS, JOB, CANCEL, RETRY, EVENTS,
    UPLOADS, KEEP, DROP,
)  # fmt: skip


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and what its answer becomes."""

    operation: Operation
    answer: Callable[[Any], T]
    place: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None

    @property
    def url(self) -> str:
        """The path, filled in."""
        return self.operation.path.format_map({name: quote(value, safe="") for name, value in self.place.items()})

    @property
    def parameters(self) -> dict[str, str]:
        """The query, without what is not given."""
        assert set(self.query) <= set(self.operation.query), self.operation
        return {name: _text(value) for name, value in self.query.items() if value is not None}

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be asked again when it is not known what became of it."""
        return self.operation.method in ("GET", "DELETE")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as(kind: type[T]) -> Callable[[Any], T]:
    return lambda value: decode(kind, value)


def server() -> Call[Server]:
    return Call(SERVER, _as(Server))


def formats() -> Call[FormatList]:
    return Call(FORMATS, _as(FormatList))


def files(path: str, after: str | None) -> Call[FilePage]:
    return Call(FILES, _as(FilePage), query={"path": path or None, "after": after, "limit": 1000})


def info(path: str, src: str | None) -> Call[Image]:
    return Call(INFO, _as(Image), query={"path": path, "src": src})


def inspect(path: str, src: str | None) -> Call[Inspection]:
    return Call(INSPECT, _as(Inspection), query={"path": path, "src": src})


def tree(path: str, volume: str | None, folder: str, src: str | None, after: str | None) -> Call[TreePage]:
    query = {"path": path, "volume": volume, "folder": folder, "src": src, "after": after, "limit": 1000}
    return Call(TREE, _as(TreePage), query=query)


def upload(name: str | None, size: int | None, options: Mapping[str, object]) -> Call[Converted]:
    return Call(UPLOAD, _as(Converted), query={"name": name, "size": size, **options})


def import_url(url: str, name: str | None, options: Mapping[str, object]) -> Call[Converted]:
    return Call(IMPORT, _as(Converted), query={"url": url, "name": name, **options})


def keep(name: str | None) -> Call[Upload]:
    return Call(KEEP, _as(Upload), query={"name": name})


def uploads() -> Call[UploadList]:
    return Call(UPLOADS, _as(UploadList))


def drop(id: str) -> Call[None]:
    return Call(DROP, lambda _: None, {"id": id})


def content(path: str) -> Call[None]:
    return Call(CONTENT, lambda _: None, query={"path": path})


def export(path: str, dst: str, options: Mapping[str, object]) -> Call[None]:
    return Call(EXPORT, lambda _: None, query={"path": path, "dst": dst, **options})


def submit(request: Mapping[str, object]) -> Call[Job]:
    return Call(SUBMIT, _as(Job), body=dict(request))


def verb(kind: str, source: str, target: str | None, options: Mapping[str, object], **more: object) -> Call[Job]:
    """The job that a command of the same name is."""
    request: dict[str, object] = {"kind": kind, "source": location(source)}
    if target is not None:
        request["target"] = location(target)
    return submit({**request, **document(options), **more})


def jobs(state: str | None, kind: str | None, text: str | None, after: str | None, order: str | None) -> Call[JobPage]:
    query = {"state": state, "kind": kind, "text": text, "after": after, "order": order, "limit": 500}
    return Call(JOBS, _as(JobPage), query=query)


def job(id: str) -> Call[Job]:
    return Call(JOB, _as(Job), {"id": id})


def cancel(id: str) -> Call[Job]:
    return Call(CANCEL, _as(Job), {"id": id})


def forget(id: str) -> Call[None]:
    return Call(CANCEL, lambda _: None, {"id": id}, {"forget": True})


def retry(id: str) -> Call[Job]:
    return Call(RETRY, _as(Job), {"id": id})


def events(id: str, after: int) -> Call[None]:
    return Call(EVENTS, lambda _: None, {"id": id}, {"after": after})


def words(value: str | tuple[str, ...] | list[str] | None) -> str | None:
    """Several values of a filter, as the service takes them."""
    return value if value is None or isinstance(value, str) else ",".join(value)


def id_of(one: Job | str) -> str:
    """The id of a job that is named either way."""
    return one.id if isinstance(one, Job) else one


def ended(one: Job) -> Job:
    """A job that has ended, if it ended well."""
    if one.state == "failed":
        raise JobFailed(one)
    if one.state == "cancelled":
        raise JobCancelled(one)
    return one


def digest_of(one: Job) -> Digest:
    """The digest that a job computed."""
    if one.result is None or not one.result.digests:
        raise ProtocolError(f"job {one.id} has no digest")
    return one.result.digests[0]


def body(response: httpx.Response) -> Any:
    """The JSON of an answer that is none of failure; nothing when it is empty."""
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ProtocolError(f"the answer to {response.request.url.path} is no JSON") from error


def failure(response: httpx.Response, content: bytes) -> ApiError:
    """The failure that an answer tells of."""
    try:
        told = json.loads(content)["error"]
        kind, message = str(told["kind"]), str(told["message"])
        causes, remedy = tuple(map(str, told.get("causes", ()))), told.get("remedy")
    except (ValueError, KeyError, TypeError):
        text = content[:200].decode(errors="replace").strip()
        return ApiError(response.status_code, "io", text or f"status {response.status_code}")
    found = KINDS.get(kind, ApiError)(response.status_code, kind, message, causes, remedy)
    if isinstance(found, Busy):
        found.retry_after = seconds(response.headers.get("retry-after"))
    return found


def seconds(text: str | None) -> float | None:
    """What `Retry-After` says, where it is a number."""
    return float(text) if text is not None and text.isdigit() else None


def pause(attempt: int, error: Exception | None = None) -> float:
    """Seconds before something is tried again for the `attempt`th time."""
    wished = error.retry_after if isinstance(error, Busy) else None
    return min(wished if wished is not None else 0.25 * 2**attempt, 30.0)


def token_of_environment(token: str | None) -> str | None:
    """The token that was given, or the one in `TRANSLOAD_TOKEN`."""
    return token if token is not None else os.environ.get("TRANSLOAD_TOKEN") or None


def headers(token: str | None) -> dict[str, str]:
    """What every request carries."""
    return {"user-agent": "transload-client/0.1.0", **({"authorization": f"Bearer {token}"} if token else {})}


def file_name(response: httpx.Response, otherwise: str) -> str:
    """What an answer says that it is called: never more than a name."""
    told = response.headers.get("content-disposition", "")
    # RFC 6266: the one that knows more than ASCII goes first.
    if found := re.search(r"filename\*=UTF-8''([^;\s]+)", told, re.IGNORECASE):
        name = unquote(found[1])
    elif found := re.search(r'filename="([^"]*)"', told, re.IGNORECASE):
        name = found[1]
    else:
        name = otherwise
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "download" if name in ("", ".", "..") or "\0" in name else name


class Meter:
    """Counts bytes and says how far something is, at most every tenth of a second."""

    def __init__(self, total: int | None, callback: ProgressCallback | None) -> None:
        self.total, self.done = total, 0
        self._callback, self._begun, self._told = callback, time.monotonic(), 0.0

    def advance(self, count: int) -> object:
        """Counts; what the callback returned, if it was its turn."""
        self.done += count
        now = time.monotonic()
        if self._callback is None or now - self._told < 0.1:
            return None
        self._told = now
        return self._callback(self._progress(now))

    def end(self) -> object:
        """Tells the last of it."""
        return self._callback(self._progress(time.monotonic())) if self._callback else None

    def _progress(self, now: float) -> Progress:
        rate = int(self.done / max(now - self._begun, 0.001))
        left = None if self.total is None or rate == 0 else max(self.total - self.done, 0) // rate
        return Progress(done_bytes=self.done, total_bytes=self.total, bytes_per_second=rate, eta_seconds=left)
