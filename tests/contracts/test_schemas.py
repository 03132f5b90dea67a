"""Contracts: schemas are committed as made, golden samples stay readable, one producer a type."""

from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator
from mospay_shared.contracts import MESSAGES, Envelope
from mospay_shared.contracts.export import documents

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "shared/contract_samples").glob("*/*.json"))


def test_committed_schemas_are_what_the_code_makes() -> None:
    made = documents()
    committed = {p.name: p.read_bytes() for p in (ROOT / "shared/schemas").glob("*.json")}
    assert committed == made


def test_every_type_has_one_producer_and_no_secret_travels_as_an_event() -> None:
    for message in MESSAGES.values():
        assert message.producer
        if not message.command:
            fields = set(message.model.model_fields)
            assert not fields & {"secrets", "secret_hash", "password", "api_key"}, message.name


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_golden_sample_is_still_read(path: Path) -> None:
    body = orjson.loads(path.read_bytes())
    envelope = Envelope.model_validate(body)
    message = MESSAGES[envelope.type]
    message.model.model_validate(envelope.data)
    schema = orjson.loads((ROOT / f"shared/schemas/{envelope.type}.json").read_bytes())
    Draft202012Validator(schema).validate(envelope.data)


def test_there_is_a_golden_sample_of_every_type() -> None:
    assert {p.stem for p in SAMPLES} == set(MESSAGES)
