"""The client for asyncio: what it does otherwise than the other one."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from transload import AsyncClient, JobFailed, Unauthorized


def test_disks_go_there_and_back_at_once(url: str, vmdk: Path, digest: str, tmp_path: Path) -> None:
    async def one(client: AsyncClient, number: int) -> str:
        made = await client.upload(vmdk, name=f"async/{number}.qcow2")
        assert made.digest and made.digest.hex == digest
        raw = await client.download(made.output, tmp_path / f"{number}.raw", dst="raw")
        return hashlib.sha256(raw.read_bytes()).hexdigest()

    async def main() -> list[str]:
        async with AsyncClient(url) as client:
            return await asyncio.gather(*(one(client, number) for number in range(4)))

    assert asyncio.run(main()) == [digest] * 4


def test_pieces_that_are_waited_for(url: str, vmdk: Path, digest: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        with vmdk.open("rb") as file:
            while piece := file.read(50_000):
                await asyncio.sleep(0)
                yield piece

    async def main() -> str:
        async with AsyncClient(url) as client:
            made = await client.upload(pieces(), name="async/pieces.qcow2", src="vmdk")
            assert made.digest
            return made.digest.hex

    assert asyncio.run(main()) == digest


def test_jobs_are_waited_for(url: str, disk: str) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            job = await client.convert(disk, "async/a.vhdx", wait=False)
            states = [event.state async for event in client.events(job) if event.type == "state"]
            assert states[-1] == "done"
            assert (await client.wait(job)).state == "done"
            names = [entry.name async for entry in client.files("async")]
            assert "a.vhdx" in names
            with pytest.raises(JobFailed):
                await client.digest("nowhere.vhdx")

    asyncio.run(main())


def test_a_token_that_is_wrong(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, token="tl_wrong") as client:
            await client.formats()

    with pytest.raises(Unauthorized):
        asyncio.run(main())
