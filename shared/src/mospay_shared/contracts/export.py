"""Write every contract's JSON Schema below a folder: `python -m mospay_shared.contracts.export`."""

import sys
from pathlib import Path

import orjson

from mospay_shared.contracts.envelope import Envelope
from mospay_shared.contracts.registry import MESSAGES

HEADER = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, bytes]:
    """Return file name → schema text, one per wire type plus the envelope; stable order."""
    models = {name: message.model for name, message in MESSAGES.items()}
    schemas = {name: model.model_json_schema() for name, model in models.items()}
    schemas["envelope"] = Envelope.model_json_schema()
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return {
        f"{name}.json": orjson.dumps(
            {"$schema": HEADER, "$id": f"mospay:{name}", **body}, option=options
        )
        for name, body in sorted(schemas.items())
    }


def catalogue() -> str:
    """Return the message catalogue as a Markdown page."""
    lines = [
        "# Messages",
        "",
        "Generated from the contract registry (`./mospay generate`). Events travel on "
        "`mospay.events`, commands on `mospay.commands`, packed as CloudEvents batches (1 to 100).",
        "",
        "| type | published by | kind | body | says |",
        "|---|---|---|---|---|",
    ]
    for name, message in sorted(MESSAGES.items()):
        kind = "command" if message.command else "event"
        producer = "any service" if message.producer == "*" else message.producer
        says = (message.model.__doc__ or "").strip().splitlines()[0]
        schema = f"[{message.model.__name__}](../shared/schemas/{name}.json)"
        lines.append(f"| `{name}` | {producer} | {kind} | {schema} | {says} |")
    return "\n".join(lines) + "\n"


def main(folder: str) -> None:
    """Write the documents and drop those whose type is gone."""
    target, wanted = Path(folder), documents()
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (target / name).write_bytes(text)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "shared/schemas")
