"""The examples of the README, one after the other, as they stand there but for the address of the service."""

import re
import shutil
from pathlib import Path

import pytest


def test_examples(url: str, vmdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    shutil.copy(vmdk, tmp_path / "web.vmdk")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        assert "http://127.0.0.1:8080" in block
        exec(compile(block.replace("http://127.0.0.1:8080", url), "README.md", "exec"), {"__name__": "readme"})
    assert (tmp_path / "web.vhdx").stat().st_size > 0
