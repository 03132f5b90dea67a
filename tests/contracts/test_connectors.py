"""What every connector has: the same protocol, public packages alone, an image without root."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from mospay_dev.services import ROOT

FOLDER = ROOT / "payment-router/microservices"
CONNECTORS = ["mtnmomo", "razorpay", "paypal", "generic"]
# Copied, not shared: a third party has no package of ours. A copy that drifts is another protocol.
COPIED = [
    "__main__.py",
    "app.py",
    "clients/wire.py",
    "domain/protocol.py",
    "routes.py",
    "storage.py",
    "usecases.py",
]
PUBLIC = {"fastapi", "uvicorn", "httpx", "pydantic-settings"}


def copied(name: str, file: str) -> str:
    text = (FOLDER / name / "src" / f"mospay_{name}" / file).read_text()
    lines = [line.rstrip() for line in text.replace(f"mospay_{name}", "mospay_x").splitlines()]
    # The formatter orders imports and breaks lines by the length of the package's name.
    return re.sub(r"\s+", "", "\n".join(sorted(lines)))


@pytest.mark.parametrize("file", COPIED)
def test_what_connectors_copy_is_the_same_in_all_of_them(file: str) -> None:
    pattern = copied(CONNECTORS[0], file)
    assert [name for name in CONNECTORS[1:] if copied(name, file) != pattern] == []


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_connector_depends_on_public_packages_alone(name: str) -> None:
    project = tomllib.loads((FOLDER / name / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[>=<\[ ]", one)[0] for one in project["dependencies"]}
    assert needed <= PUBLIC


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors_answer_the_routes_that_the_router_asks(name: str) -> None:
    document = json.loads((FOLDER / name / "openapi.json").read_text())
    assert set(document["paths"]) == {
        "/healthz",
        "/callbacks",
        "/{service}/{route}",
        "/{service}/refund",
        "/{service}/refundStatus",
    }


@pytest.mark.parametrize("name", CONNECTORS)
def test_images_run_without_root_and_say_how_they_are(name: str) -> None:
    text = (FOLDER / name / "Dockerfile").read_text()
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001$", last, re.M) and "HEALTHCHECK" in last
    assert text.count("FROM ") >= 2 and f"--package mospay-{name}" in text


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_setting_of_a_connector_is_in_its_readme(name: str) -> None:
    readme = (FOLDER / name / "README.md").read_text()
    settings = Path(FOLDER / name / "src" / f"mospay_{name}" / "settings.py").read_text()
    body = settings.partition("class Settings")[2]
    names = set(re.findall(r"^    ([a-z_]+): ", body, re.M))
    missing = {one for one in names if f"`{one.upper()}" not in readme}
    assert len(names) > 8 and missing == set()
