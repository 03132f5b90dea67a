"""The OpenAPI document: valid, and an example for every request, success and error."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mospay_gateway.domain import errors
from mospay_gateway.routes.documents import KNOWN
from mospay_gateway.routes.examples import PROBLEMS
from openapi_spec_validator import validate

DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "openapi.json").read_text()
)
FIELD_API = "/api/v1/"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every operation with its name, `POST /v1/payments`."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


EVERY = list(operations())
each = pytest.mark.parametrize(("name", "operation"), EVERY, ids=[name for name, _ in EVERY])


def check(schema: dict[str, Any], example: Any) -> None:
    """Check an example against its schema."""
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(example)


def test_document_is_valid() -> None:
    validate(DOCUMENT)


@each
def test_request_has_an_example_that_fits(name: str, operation: dict[str, Any]) -> None:
    body = operation.get("requestBody")
    if body is None:
        return
    for content in body["content"].values():
        assert "example" in content, name
        check(content["schema"], content["example"])


@each
def test_every_answer_has_an_example_that_fits(name: str, operation: dict[str, Any]) -> None:
    assert any(status.startswith("2") for status in operation["responses"])
    for status, response in operation["responses"].items():
        assert response["content"], (name, status)
        for content in response["content"].values():
            shown = [content["example"]] if "example" in content else [
                one["value"] for one in content["examples"].values()
            ]  # fmt: skip
            assert shown, (name, status)
            for example in shown:
                check(content["schema"], example)


@each
def test_every_error_says_its_code_and_status(name: str, operation: dict[str, Any]) -> None:
    field_api = name.partition(" ")[2].startswith(FIELD_API)
    for status, response in operation["responses"].items():
        examples = [
            (code, one["value"])
            for content in response["content"].values()
            for code, one in content.get("examples", {}).items()
        ]
        if status.startswith("2") or name in ("GET /healthz", "GET /readyz"):
            continue
        media = "application/json" if field_api else "application/problem+json"
        assert list(response["content"]) == [media] and examples, (name, status)
        for code, value in examples:
            assert value["code"] == code and str(value["status"]) == status
            assert code in PROBLEMS


@each
def test_operation_says_who_may_call_it(name: str, operation: dict[str, Any]) -> None:
    known = set(DOCUMENT["components"]["securitySchemes"])
    used = {scheme for one in operation["security"] for scheme in one}
    assert used <= known
    if "/internal/" in name:
        assert used == {"ServiceToken"}
    assert "401" in operation["responses"] or not used, name


def test_every_error_of_ours_is_among_the_examples() -> None:
    kinds = {
        kind for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError)
    }  # fmt: skip
    codes = {kind.code for kind in kinds} - {"refused", "not_allowed"}
    assert codes <= set(PROBLEMS)
    used = {code for operation in KNOWN.values() for code in operation.errors}
    assert used == set(PROBLEMS), "each is an error some operation can give"
