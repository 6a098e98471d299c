"""What the client asks and takes, held to the service's OpenAPI document."""

import dataclasses
import typing
from typing import Any

import httpx
import pytest

from transload import _calls, models, requests
from transload.models import camel


@pytest.fixture(scope="module")
def document(url: str) -> Any:
    return httpx.get(f"{url}/openapi.json").json()


def follow(document: Any, schema: Any) -> Any:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def properties(document: Any, schema: Any) -> dict[str, Any]:
    """The properties of a schema and of those that it is put together from."""
    schema = follow(document, schema)
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found |= properties(document, part)
    return found


def values(document: Any, schema: Any) -> set[str]:
    """The words that a schema allows."""
    schema = follow(document, schema)
    found = set(schema.get("enum", [])) | ({schema["const"]} if "const" in schema else set())
    for part in [*schema.get("oneOf", []), *schema.get("anyOf", []), *schema.get("allOf", [])]:
        found |= values(document, part)
    if "items" in schema:
        found |= values(document, schema["items"])
    return found


def words(hint: Any) -> set[str]:
    """The words of a type."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return {word for part in typing.get_args(hint) for word in words(part)}


@pytest.mark.parametrize("operation", _calls.OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_is_there(document: Any, operation: _calls.Operation) -> None:
    described = document["paths"][operation.path][operation.method.lower()]
    query = {one["name"] for one in described.get("parameters", []) if one["in"] == "query"}
    assert set(operation.query) <= query
    needed = {one["name"] for one in described.get("parameters", []) if one["in"] == "query" and one.get("required")}
    assert needed <= set(operation.query)


@pytest.mark.parametrize("model", models.SCHEMAS, ids=lambda one: one.__name__)
def test_every_field_is_there(document: Any, model: type[Any]) -> None:
    schema = document["components"]["schemas"][models.SCHEMAS[model]]
    known, needed = properties(document, schema), set(schema.get("required", []))
    for entry in dataclasses.fields(model):
        assert camel(entry.name) in known
        assert not models.is_required(entry) or camel(entry.name) in needed, f"{entry.name} may be missing"
    ours = {camel(entry.name) for entry in dataclasses.fields(model)}
    assert set(known) <= ours, "the service tells more"


@pytest.mark.parametrize("options", requests.SCHEMAS, ids=lambda one: one.__name__)
def test_every_option_is_there(document: Any, options: Any) -> None:
    known = properties(document, document["components"]["schemas"][requests.SCHEMAS[options]])
    for name, hint in typing.get_type_hints(options).items():
        assert camel(name) in known
        allowed = words(hint)
        assert not allowed or allowed == values(document, known[camel(name)]), name


def test_states_and_kinds_are_those_of_the_service(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert words(models.JobState) == values(document, schemas["JobState"])
    assert words(models.JobKind) == values(document, schemas["JobKind"])
    assert words(requests.Hypervisor) == values(document, schemas["Hypervisor"])
    assert words(requests.DigestName) == values(document, schemas["DigestName"])
