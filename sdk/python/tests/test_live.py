"""The client for ordinary code, with a service and real images."""

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from transload import (
    Client,
    Conflict,
    ConnectionFailed,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
    Progress,
    WaitTimeout,
    upload_id,
)
from transload._pieces import UploadSource


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_disk_goes_there_and_back(client: Client, vmdk: Path, digest: str, tmp_path: Path) -> None:
    heard: list[Progress] = []
    made = client.upload(vmdk, name="there/new.qcow2", progress=heard.append)
    assert made.digest and made.digest.hex == digest
    assert (made.output, made.format, made.source_format) == ("there/new.qcow2", "qcow2", "vmdk")
    assert heard[-1].done_bytes == heard[-1].total_bytes == vmdk.stat().st_size
    raw = client.download("there/new.qcow2", tmp_path / "back.raw", dst="raw", progress=heard.append)
    assert sha256(raw) == digest
    assert heard[-1].done_bytes == made.capacity_bytes
    assert client.digest("there/new.qcow2").hex == digest


def test_uploads_come_from_anywhere(client: Client, vmdk: Path, digest: str) -> None:
    content = vmdk.read_bytes()

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(content), 100_000):
            yield content[at : at + 100_000]

    with vmdk.open("rb") as file:
        sources: list[UploadSource] = [str(vmdk), content, io.BytesIO(content), file, pieces()]
        for number, source in enumerate(sources):
            made = client.upload(source, name=f"anywhere/{number}.qcow2", dst="qcow2", src="vmdk")
            assert made.digest and made.digest.hex == digest, number


def test_what_is_taken_is_refused_and_stays(client: Client, vmdk: Path, root: Path) -> None:
    client.upload(vmdk, name="taken.qcow2")
    before = sha256(root / "taken.qcow2")
    with pytest.raises(Conflict) as refused:
        client.upload(b"x" * 512, name="taken.qcow2", src="raw")
    assert refused.value.remedy
    assert sha256(root / "taken.qcow2") == before
    client.upload(vmdk, name="taken.qcow2", force=True)


def test_a_folder_is_a_place_for_downloads(client: Client, disk: str, root: Path, tmp_path: Path) -> None:
    assert client.download(disk, tmp_path) == tmp_path / "disk.qcow2"
    assert client.download(disk, tmp_path, dst="vmdk") == tmp_path / "disk.vmdk"
    assert sha256(tmp_path / "disk.qcow2") == sha256(root / disk)


class Cutting(httpx.BaseTransport):
    """Breaks answers with a body off after so many bytes, as often as is said."""

    def __init__(self, after: int, times: int) -> None:
        self.inner, self.after, self.times = httpx.HTTPTransport(), after, times
        self.ranges: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if not request.url.path.endswith("/content") and request.url.path != "/export":
            return response
        self.ranges.append(request.headers.get("range"))
        if self.times > 0:
            self.times -= 1
            response.stream = Cut(response.stream, self.after)
        return response


class Cut(httpx.SyncByteStream):
    def __init__(self, inner: object, after: int) -> None:
        assert isinstance(inner, httpx.SyncByteStream)
        self.inner, self.after = inner, after

    def __iter__(self) -> Iterator[bytes]:
        left = self.after
        for piece in self.inner:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                raise httpx.ReadError("the cable was pulled")

    def close(self) -> None:
        self.inner.close()


def test_a_download_goes_on_where_it_broke_off(url: str, disk: str, root: Path, tmp_path: Path) -> None:
    transport = Cutting(1000, 2)
    with Client(url, transport=transport) as client:
        client.download(disk, tmp_path / "whole.qcow2")
    assert transport.ranges == [None, "bytes=1000-", "bytes=2000-"]
    assert sha256(tmp_path / "whole.qcow2") == sha256(root / disk)


def test_a_download_that_never_ends_leaves_nothing(url: str, disk: str, tmp_path: Path) -> None:
    with Client(url, transport=Cutting(1000, 99), retries=1) as client, pytest.raises(ConnectionFailed):
        client.download(disk, tmp_path / "never.qcow2")
    with Client(url, transport=Cutting(1000, 99), retries=0) as client, pytest.raises(ConnectionFailed):
        client.download(disk, tmp_path / "never.raw", dst="raw")
    assert list(tmp_path.iterdir()) == []


def test_an_image_tells_of_itself(client: Client, disk: str) -> None:
    assert client.info(disk).format == "qcow2"
    found = client.inspect(disk)
    assert found.table == "gpt"
    kinds = {one.contents.type for one in found.volumes if one.contents}
    assert {"ntfs", "exfat", "vfat"} <= kinds
    volume = next(one.name for one in found.volumes if one.contents and one.contents.type == "ntfs")
    assert [one.name for one in client.ls(disk, volume=volume)]
    assert "disk.qcow2" in [one.name for one in client.files()]
    with pytest.raises(NotFound):
        client.info("nowhere.qcow2")
    with pytest.raises(InvalidInput):
        client.info(disk, src="no format")


def test_formats_are_listed(client: Client) -> None:
    names = {one.name for one in client.formats()}
    assert {"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"} <= names
    assert client.server().who == "tester"


def test_jobs_are_done_and_told_of(client: Client, disk: str) -> None:
    heard: list[Progress] = []
    job = client.convert(disk, "jobs/a.vmdk", progress=heard.append, digests=["sha256"], force=True, run={"name": "a vmdk"})
    assert job.result and job.result.output == "jobs/a.vmdk"
    assert heard[-1].fraction == 1.0
    assert client.digest(disk) == job.result.digests[0]
    check = client.check("jobs/a.vmdk")
    assert check.result and check.result.sound is True
    events = list(client.events(job))
    assert events[-1].type == "state" and events[-1].state == "done"
    assert job.id in [one.id for one in client.jobs(kind="convert", state=["done"], text="a vmdk")]
    client.forget(job)
    with pytest.raises(NotFound):
        client.job(job)


def test_a_job_that_fails_says_why(client: Client) -> None:
    with pytest.raises(JobFailed) as failed:
        client.convert("nowhere.vmdk", "jobs/never.qcow2")
    job = failed.value.job
    assert job.error and job.error.message
    with pytest.raises(JobFailed):
        client.wait(client.retry(job), timeout=30)
    again = client.job(job)
    assert again.last_error is not None


def test_a_job_is_cancelled(client: Client, root: Path) -> None:
    with (root / "large.raw").open("wb") as file:
        for number in range(64):
            file.seek(number << 26)
            file.write(hashlib.sha512(bytes([number])).digest() * 16384)
    job = client.convert("large.raw", "jobs/large.qcow2", wait=False, compress="zstd", level="12", verify=True)
    with pytest.raises(WaitTimeout):
        client.wait(job, timeout=0.01)
    client.cancel(job)
    with pytest.raises(JobCancelled):
        client.wait(job, timeout=30)
    assert not (root / "jobs" / "large.qcow2").exists()
    (root / "large.raw").unlink()


def test_a_file_is_kept_for_jobs(client: Client, vmdk: Path, digest: str) -> None:
    kept = client.keep(vmdk, name=vmdk.name)
    assert kept.size == vmdk.stat().st_size and kept.digest.hex == sha256(vmdk)
    job = client.convert(upload_id(kept.id), "jobs/kept.qcow2", digests=["sha256"])
    assert job.result and job.result.digests[0].hex == digest
    assert kept.id in [one.id for one in client.uploads()]
    client.drop(kept)
    assert kept.id not in [one.id for one in client.uploads()]


def test_nobody_listens() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ConnectionFailed):
        client.server()


def test_a_client_is_used_by_several_threads(client: Client, disk: str) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(client.info(disk).virtual_size)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [268435456] * 8
