"""The import rules break when a service imports another (shown on a copy of the sources)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mospay_dev.services import ROOT, SERVICES

LINT = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The sources and rules in a folder of their own, and an environment that imports from it."""
    sources = [spec.folder / "src" for spec in SERVICES.values()]
    sources += [ROOT / "shared/src", ROOT / "dev/src"]
    sources += (ROOT / "payment-router/microservices").glob("*/src")
    for source in sources:
        shutil.copytree(source, tmp_path / "src", dirs_exist_ok=True)
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path / "src")}


def lint(copy: tuple[Path, dict[str, str]]) -> "subprocess.CompletedProcess[str]":
    """Run import-linter on the copy."""
    return subprocess.run(
        LINT, cwd=copy[0], env=copy[1], capture_output=True, text=True, check=False
    )


def test_the_rules_hold_and_a_cross_service_import_breaks_them(
    copy: tuple[Path, dict[str, str]],
) -> None:
    before = lint(copy)
    assert before.returncode == 0, before.stdout
    with (copy[0] / "src/mospay_ledger/usecases.py").open("a") as culprit:
        culprit.write("\nimport mospay_reporter\n")
    after = lint(copy)
    assert after.returncode != 0
    assert "Services never import each other BROKEN" in after.stdout, after.stdout


def test_a_connector_that_imports_anything_of_mospay_breaks_the_rules(
    copy: tuple[Path, dict[str, str]],
) -> None:
    with (copy[0] / "src/mospay_paypal/domain/paypal.py").open("a") as culprit:
        culprit.write("\nimport mospay_shared.money\n")
    after = lint(copy)
    assert after.returncode != 0
    assert "they import nothing of MosPay BROKEN" in after.stdout, after.stdout
