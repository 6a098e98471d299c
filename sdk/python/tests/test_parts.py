"""The parts that need no service."""

import httpx
import pytest

from transload import ProtocolError, _calls
from transload._decode import decode
from transload._events import Parser
from transload.models import Progress
from transload.requests import document, location, upload_id

EVENT = b'id: 3\nevent: warning\ndata: {"id":3,"job":"j","at":"2026-11-21T03:37:44.250Z","type":"warning","message":"a\xe2\x80\xa8b"}\n\n'


def test_events_come_in_any_pieces() -> None:
    for size in (1, 7, len(EVENT)):
        parser = Parser()
        found = [event for at in range(0, len(EVENT), size) for event in parser.feed(EVENT[at : at + size])]
        # A line end of Unicode in a text ends no line.
        assert [(one.id, one.message) for one in found] == [(3, "a\u2028b")]
    assert Parser().feed(b": alive\n\n") == []
    with pytest.raises(ProtocolError):
        Parser().feed(b"data: {\n\n")


def test_answers_are_checked() -> None:
    assert decode(Progress, {"doneBytes": 1, "writtenBytes": 2, "novel": 3}).done_bytes == 1
    with pytest.raises(ProtocolError, match="doneBytes is str"):
        decode(Progress, {"doneBytes": "1", "writtenBytes": 2})
    with pytest.raises(ProtocolError, match="has no output"):
        _calls.upload(None, None, {}).answer({})


def test_options_are_spelled_as_the_service_does() -> None:
    spelled = document({"options": {"cluster_size": "64k"}, "run": {"max_attempts": 2}})
    assert spelled == {"options": {"cluster_size": "64k"}, "run": {"maxAttempts": 2}}
    assert location("https://h/a") == {"url": "https://h/a"}
    assert location("a/b") == {"path": "a/b"}
    assert location(upload_id("abc")) == {"upload": "abc"}


def test_a_name_of_a_download_leads_nowhere() -> None:
    for told, name in [
        ('attachment; filename="a.raw"; filename*=UTF-8\'\'%C3%BC.raw', "ü.raw"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename=".."', "download"),
        ("attachment; filename*=UTF-8''..%2F..%2Fa", "a"),
        ("", "otherwise"),
    ]:
        response = httpx.Response(200, headers={"content-disposition": told})
        assert _calls.file_name(response, "otherwise") == name


def test_what_is_no_failure_of_the_service_is_told_as_it_is() -> None:
    error = _calls.failure(httpx.Response(502), b"<html>Bad Gateway</html>")
    assert (error.status, error.kind) == (502, "io") and "Bad Gateway" in error.message
