"""The committed OpenAPI document."""

import json
from pathlib import Path

from mospay_simulator.app import create_app
from mospay_simulator.settings import Settings


def test_committed_openapi_document_is_current(project: Path) -> None:
    committed = json.loads((project / "openapi.json").read_text())
    assert create_app(Settings(http_port=0)).openapi() == committed
