"""What the service answers with.

Each class is a schema of the service's OpenAPI document, named in `SCHEMAS`; each field is a property of that schema, `virtual_size` for
`virtualSize`. Properties that a newer service has besides are left out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JobKind = Literal["convert", "export", "import", "validate", "digest", "check", "archive"]


@dataclass(frozen=True)
class ServerLimits:
    """How much the service takes."""

    upload_bytes: int
    disk_bytes: int
    spool_bytes: int
    conversions: int
    request_seconds: int


@dataclass(frozen=True)
class Server:
    """What the service is. `who` is the name of the token, or `local` where none is needed."""

    version: str
    who: str
    limits: ServerLimits


@dataclass(frozen=True)
class FormatVariant:
    """A kind of a format."""

    name: str
    summary: str
    read: bool
    write: bool
    stream_read: bool
    stream_write: bool


@dataclass(frozen=True)
class FormatOption:
    """An option of a format as a target."""

    name: str
    help: str
    kind: str
    choices: list[str]
    default: str


@dataclass(frozen=True)
class Format:
    """A format and what can be done with it."""

    name: str
    aliases: list[str]
    title: str
    extensions: list[str]
    read: bool
    write: bool
    stream_read: bool
    stream_write: bool
    check: bool
    variants: list[FormatVariant]
    options: list[FormatOption]


@dataclass(frozen=True)
class FormatList:
    """All formats."""

    formats: list[Format]


@dataclass(frozen=True)
class FileEntry:
    """A file or folder of the service. `modified` is in seconds since 1970."""

    name: str
    path: str
    kind: str
    modified: int
    size: int | None = None
    allocated: int | None = None


@dataclass(frozen=True)
class FilePage:
    """A page of a folder."""

    path: str
    entries: list[FileEntry]
    next: str | None = None


@dataclass(frozen=True)
class Digest:
    """A digest of the bytes that a guest sees."""

    algorithm: str
    hex: str


@dataclass(frozen=True)
class Converted:
    """What a conversion in one pass did. `output` is a path below the root."""

    output: str
    format: str
    source_format: str
    written_bytes: int
    capacity_bytes: int
    elapsed_seconds: float
    warnings: list[str]
    digest: Digest | None = None


@dataclass(frozen=True)
class Upload:
    """A file that is kept until a job takes it. `created` and `expires` are in seconds since 1970."""

    id: str
    size: int
    digest: Digest
    created: int
    expires: int
    name: str | None = None


@dataclass(frozen=True)
class UploadList:
    """The files that are kept."""

    uploads: list[Upload]


@dataclass(frozen=True)
class Extent:
    """A file that holds a part of a disk."""

    kind: str
    size: int
    file: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """An internal snapshot."""

    id: str
    name: str
    virtual_size: int
    vm_state_size: int
    date: int


@dataclass(frozen=True)
class Image:
    """What an image says of itself."""

    image: str
    format: str
    title: str
    virtual_size: int
    extents: list[Extent]
    snapshots: list[Snapshot]
    dirty: bool
    corrupt: bool
    details: dict[str, str]
    warnings: list[str]
    variant: str | None = None
    file_size: int | None = None
    allocated_size: int | None = None
    cluster_size: int | None = None
    compression: str | None = None
    encryption: str | None = None
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None


@dataclass(frozen=True)
class Partition:
    """An entry of a partition table."""

    number: int
    start: int
    type_code: str
    role: str
    partuuid: str
    active: bool
    type_title: str | None = None
    label: str = ""


@dataclass(frozen=True)
class Contents:
    """What a superblock says. `type` is as `blkid` calls it."""

    type: str
    usage: str
    version: str | None = None
    label: str | None = None
    uuid: str | None = None


@dataclass(frozen=True)
class Volume:
    """A partition, a logical volume, or the whole of a disk without a table."""

    name: str
    size: int
    partition: Partition | None = None
    contents: Contents | None = None
    unreadable: str | None = None


@dataclass(frozen=True)
class Mount:
    """What a system mounts."""

    source: str
    mount_point: str
    state: str
    volume: str | None = None


@dataclass(frozen=True)
class System:
    """An operating system."""

    volume: str
    root: str
    family: str
    kernels: list[str]
    mounts: list[Mount]
    name: str | None = None
    id: str | None = None
    version: str | None = None
    architecture: str | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class BootLoader:
    """Something that starts a system."""

    name: str
    volume: str
    firmware: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something to know: a `note`, a `warning` or `damage`."""

    severity: str
    text: str


@dataclass(frozen=True)
class Inspection:
    """What stands on a disk."""

    image: str
    virtual_size: int
    volumes: list[Volume]
    systems: list[System]
    boot_loaders: list[BootLoader]
    findings: list[Finding]
    table: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class TreeEntry:
    """A file in an image. `modified` is in seconds since 1970, `target` where a symbolic link points to."""

    name: str
    kind: str
    size: int
    mode: str
    uid: int
    gid: int
    modified: int | None = None
    target: str | None = None


@dataclass(frozen=True)
class TreePage:
    """A page of a folder in an image."""

    volume: str
    folder: str
    entries: list[TreeEntry]
    next: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far something is. `total_bytes`, the rate and the time left are not always known."""

    done_bytes: int = 0
    written_bytes: int = 0
    step: str | None = None
    total_bytes: int | None = None
    bytes_per_second: int | None = None
    eta_seconds: int | None = None

    @property
    def fraction(self) -> float | None:
        """The share that is done, from 0 to 1."""
        return self.done_bytes / self.total_bytes if self.total_bytes else None


@dataclass(frozen=True)
class OutputFile:
    """A file that a job made."""

    name: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class JobResult:
    """What came of a job. `details` is what the command of the same name prints with `--json`."""

    output: str | None = None
    files: list[OutputFile] = field(default_factory=list)
    format: str | None = None
    written_bytes: int = 0
    capacity_bytes: int = 0
    elapsed_seconds: float = 0.0
    digests: list[Digest] = field(default_factory=list)
    sound: bool | None = None
    details: Any = None


@dataclass(frozen=True)
class JobError:
    """Why a job, or an attempt at it, failed."""

    kind: str
    message: str
    remedy: str | None = None
    causes: list[str] = field(default_factory=list)
    attempt: int = 0
    at: datetime | None = None


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    id: str
    kind: JobKind
    state: JobState
    request: dict[str, Any]
    streamed: bool
    progress: Progress
    warnings: list[str]
    attempts: int
    max_attempts: int
    priority: int
    cancel_requested: bool
    last_event: int
    created_at: datetime
    updated_at: datetime
    result: JobResult | None = None
    error: JobError | None = None
    last_error: JobError | None = None
    worker: str | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobPage:
    """A page of jobs."""

    jobs: list[Job]
    next: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `type` is `state`, `progress`, `warning` or `cancelRequested`."""

    id: int
    job: str
    at: datetime
    type: str
    state: JobState | None = None
    attempt: int | None = None
    result: JobResult | None = None
    error: JobError | None = None
    progress: Progress | None = None
    message: str | None = None


SCHEMAS: dict[type[Any], str] = {
    ServerLimits: "ServerLimits",
    Server: "Server",
    FormatVariant: "VariantDocument",
    FormatOption: "OptionDocument",
    Format: "FormatDocument",
    FormatList: "FormatsDocument",
    FileEntry: "FileEntry",
    FilePage: "FileList",
    Digest: "Digest",
    Converted: "Converted",
    Upload: "Upload",
    UploadList: "UploadList",
    Extent: "ExtentDocument",
    Snapshot: "SnapshotDocument",
    Image: "ImageDocument",
    Partition: "PartitionDocument",
    Contents: "ContentsDocument",
    Volume: "VolumeDocument",
    Mount: "MountDocument",
    System: "SystemDocument",
    BootLoader: "BootLoaderDocument",
    Finding: "FindingDocument",
    Inspection: "InspectionDocument",
    TreeEntry: "TreeEntry",
    TreePage: "TreeDocument",
    Progress: "JobProgress",
    OutputFile: "OutputFile",
    JobResult: "JobResult",
    JobError: "JobError",
    Job: "Job",
    JobPage: "JobPage",
}
"""The schema of each class. Events come in a stream, which the document does not describe by a schema of its own."""


def camel(name: str) -> str:
    """The property that a field stands for: `virtualSize` for `virtual_size`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def is_required(entry: dataclasses.Field[Any]) -> bool:
    """Whether a field has to be there."""
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
