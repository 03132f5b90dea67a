"""compose.yaml and the environment it needs: nothing by default, everything from one command."""

import re
from pathlib import Path

import pytest
import yaml
from mospay_dev.compose import SQL, write_environment
from mospay_dev.environment import Backing, service_environment
from mospay_dev.infrastructure.keys import new_keys
from mospay_dev.infrastructure.processes import StartFailed
from mospay_dev.services import ROOT, SERVICES, ServiceSpec

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_every_secret_compose_needs_is_written_and_none_has_a_default(tmp_path: Path) -> None:
    write_environment(tmp_path / ".env", lambda _: None)
    written = dict(
        line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines() if line
    )
    text = (ROOT / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(MOSPAY_[A-Z_]+):\?", text))
    assert needed and needed <= set(written)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert not re.search(r"\$\{MOSPAY_[A-Z_]*(PASSWORD|KEY|SECRET|PEPPER)[A-Z_]*:-", text)


def test_secrets_once_written_are_never_overwritten(tmp_path: Path) -> None:
    write_environment(tmp_path / ".env", lambda _: None)
    before = (tmp_path / ".env").read_text()
    with pytest.raises(StartFailed, match="exists"):
        write_environment(tmp_path / ".env", lambda _: None)
    assert (tmp_path / ".env").read_text() == before


def test_the_databases_sql_names_every_role_and_database(tmp_path: Path) -> None:
    write_environment(tmp_path / ".env", lambda _: None)
    text = (tmp_path / ".mospay/compose" / SQL).read_text()
    for spec in SERVICES.values():
        assert f"create database {spec.database} owner {spec.database}_owner" in text
        assert all(f"{spec.database}_{role}" in text for role in ("app", "worker", "owner"))


@pytest.mark.parametrize("spec", SERVICES.values(), ids=lambda spec: str(spec.name))
def test_compose_gives_a_service_the_variables_the_local_stack_gives(spec: ServiceSpec) -> None:
    ports = dict.fromkeys((*SERVICES, "simulator", "receiver"), 1)
    backing = Backing("postgresql://a:b@c:1/d", "amqp://a", "redis://a", new_keys(), ports)
    local = set(service_environment(spec.name, backing))
    given = set(COMPOSE[spec.name]["environment"])
    in_the_image = {f"{spec.prefix}HTTP_PORT"}
    only_for_loopback = {f"{spec.prefix}ALLOW_PRIVATE_NETWORKS"}
    assert local - given <= in_the_image | only_for_loopback
    migration = COMPOSE[f"{spec.name}-migrate"]["environment"]
    assert f"{spec.prefix}MIGRATION_DATABASE_URL" in migration


@pytest.mark.parametrize("name", [*SERVICES, "simulator"])
def test_containers_run_without_root_and_say_how_they_are(name: str) -> None:
    text = (ROOT / COMPOSE[name]["build"]["dockerfile"]).read_text()
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001$", last, re.M) and "HEALTHCHECK" in last
    assert text.count("FROM ") >= 2
    assert COMPOSE[name]["read_only"] is True and COMPOSE[name]["cap_drop"] == ["ALL"]
