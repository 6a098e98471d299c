"""Makes `client.py` from `aio.py`: the two are one text, but for what waits. `--check` fails where they differ."""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "src" / "transload"

WORDS = [
    (r'"""The client for asyncio: the same methods as those of `Client`, awaited\."""', '"""The client for ordinary code."""'),
    (r"import asyncio\n", ""),
    (r"await asyncio\.sleep", "time.sleep"),
    (r"import AsyncIterable, AsyncIterator, Iterable", "import Iterable, Iterator"),
    (r"\b(opened|counted)_async\b", r"\1"),
    (r"\bAsync(Client|UploadSource|Iterable|Iterator|BaseTransport)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\ba(close|iter_raw|read)\b", r"\1"),
    (r"(?<!\w)\(await (self\.\w+\((?:[^()]|\([^()]*\))*\))\)\.", r"\1."),
    (r"\b(?:async|await) ", ""),
]


def made() -> str:
    """What `client.py` has to be."""
    text = (PACKAGE / "aio.py").read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return text


if __name__ == "__main__":
    target = PACKAGE / "client.py"
    if "--check" not in sys.argv[1:]:
        target.write_text(made())
    elif target.read_text() != made():
        sys.exit("client.py is not made from aio.py as it is now: run python sync.py")
