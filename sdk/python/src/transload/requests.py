"""What the service is asked for.

The options of a job are those of its schema in the OpenAPI document, `max_attempts` for `maxAttempts`. Each class here names its schema
in `SCHEMAS`.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from .models import camel

DigestName = Literal["sha256", "blake3"]
Codec = Literal["auto", "zlib", "zstd"]
Prealloc = Literal["off", "falloc", "full"]
Hypervisor = Literal["libvirt", "proxmox", "vmx", "hyperv", "virtualbox", "raw"]


class ReadOptions(TypedDict, total=False):
    """How a disk image is read."""

    format: str
    options: dict[str, str]
    references: Literal["same-dir", "deny"]
    checksum: str


class RunOptions(TypedDict, total=False):
    """How the queue treats a job."""

    name: str
    priority: int
    max_attempts: int
    threads: int


class ConvertOptions(TypedDict, total=False):
    """How a disk image is written in another format."""

    read: ReadOptions
    format: str
    options: dict[str, str]
    compress: Codec
    level: str
    prealloc: Prealloc
    verify: bool
    digests: list[DigestName]
    force: bool
    seed: str
    spool: bool
    run: RunOptions


class ExportOptions(TypedDict, total=False):
    """How a machine is packed into an OVA."""

    manifest: Literal["sha256", "sha1", "sha512", "none"]
    level: str
    hardware_version: int
    nvram: Literal["auto", "include", "skip"]
    system: str
    force: bool
    run: RunOptions


class ImportOptions(TypedDict, total=False):
    """How an OVA is unpacked."""

    format: str
    system: str
    ignore_manifest: bool
    force: bool
    run: RunOptions


class ValidateOptions(TypedDict, total=False):
    """How an OVA is judged."""

    run: RunOptions


class DigestOptions(TypedDict, total=False):
    """How a digest is computed."""

    read: ReadOptions
    run: RunOptions


class CheckOptions(TypedDict, total=False):
    """How an image is checked."""

    read: ReadOptions
    run: RunOptions


class ArchiveOptions(TypedDict, total=False):
    """How the files of a disk are put into an archive."""

    read: ReadOptions
    disk: str
    host: str
    tags: list[str]
    reread: bool
    run: RunOptions


class DownloadOptions(TypedDict, total=False):
    """How something is converted while it is downloaded."""

    src: str
    compress: Codec
    level: str
    options: str


class StreamOptions(TypedDict, total=False):
    """How something is converted in one pass, while it comes."""

    src: str
    dst: str
    prealloc: Prealloc
    compress: Codec
    level: str
    options: str
    digest: Literal["sha256", "blake3", "none"]
    force: bool


SCHEMAS: dict[Any, str] = {
    ReadOptions: "ReadOptions",
    RunOptions: "RunOptions",
    ConvertOptions: "ConvertJob",
    ExportOptions: "ExportJob",
    ImportOptions: "ImportJob",
    ValidateOptions: "ValidateJob",
    DigestOptions: "DigestJob",
    CheckOptions: "CheckJob",
    ArchiveOptions: "ArchiveJob",
}


class upload_id(str):  # noqa: N801 - it is used as a function
    """Marks a text as the id of an upload, where a source is asked for."""

    __slots__ = ()


def location(text: str) -> dict[str, str]:
    """A place as the service has it: an upload, an address, or a path below the root."""
    if isinstance(text, upload_id):
        return {"upload": str(text)}
    return {"url" if "://" in text else "path": text}


# The keys of these are names of the formats' own, and are left as they are.
_VERBATIM = frozenset({"options"})


def document(options: Any) -> dict[str, Any]:
    """Options as the service spells them."""
    return {
        camel(name): value if name in _VERBATIM or not isinstance(value, dict) else document(value)
        for name, value in options.items()
        if value is not None
    }
