"""The service that the tests talk to, as the environment names it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from transload import Client


@pytest.fixture(scope="session")
def url() -> str:
    return os.environ["TEST_URL"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The service's root."""
    return Path(os.environ["TEST_ROOT"])


@pytest.fixture(scope="session")
def vmdk() -> Path:
    """A real image that can be read while it is sent, and the SHA-256 of the bytes that a guest sees in it."""
    return Path(os.environ["TEST_VMDK"])


@pytest.fixture(scope="session")
def digest() -> str:
    return os.environ["TEST_DIGEST"]


@pytest.fixture(scope="session")
def disk(root: Path) -> str:
    """A real image of the service, with partitions and files."""
    shutil.copy(os.environ["TEST_DISK"], root / "disk.qcow2")
    return "disk.qcow2"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client
