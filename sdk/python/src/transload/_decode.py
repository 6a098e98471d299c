"""From JSON to the classes of `models`, checked on the way."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Hashable
from datetime import datetime
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .errors import ProtocolError
from .models import camel, is_required

T = TypeVar("T")


def decode(kind: type[T], value: object, at: str = "the answer") -> T:
    """The JSON `value` as a `kind`.

    Raises `ProtocolError` where it is none.
    """
    decoded: T = _decode(kind, value, at)
    return decoded


@functools.cache
def _fields(kind: Hashable) -> list[tuple[str, str, Any, bool]]:
    assert isinstance(kind, type) and dataclasses.is_dataclass(kind), kind
    hints = get_type_hints(kind)
    return [(one.name, camel(one.name), hints[one.name], is_required(one)) for one in dataclasses.fields(kind)]


def _decode(kind: Any, value: object, at: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _decode(next(one for one in arguments if one is not type(None)), value, at)
    if origin is list and isinstance(value, list):
        return [_decode(arguments[0], one, f"{at}[{index}]") for index, one in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: _decode(arguments[1], one, f"{at}.{name}") for name, one in value.items()}
    if origin is Literal and isinstance(value, str):
        # A state that a newer service has is no reason to fail.
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _instance(kind, value, at)
    if kind is datetime and isinstance(value, str):
        return _moment(value, at)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise ProtocolError(f"{at} is {type(value).__name__}, not {getattr(kind, '__name__', kind)}")


def _moment(text: str, at: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ProtocolError(f"{at} is no moment: {text!r}") from error


def _instance(kind: type[Any], value: dict[str, object], at: str) -> Any:
    given: dict[str, Any] = {}
    for name, alias, hint, required in _fields(cast(Hashable, kind)):
        if alias in value:
            given[name] = _decode(hint, value[alias], f"{at}.{alias}")
        elif required:
            raise ProtocolError(f"{at} has no {alias}")
    return kind(**given)
