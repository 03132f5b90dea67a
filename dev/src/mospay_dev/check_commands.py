"""`./mospay check`: what a change must pass before anyone reads it."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mospay_dev import web
from mospay_dev.infrastructure.processes import run_told
from mospay_dev.services import ROOT, SERVICES

_BIN = Path(sys.executable).parent
_TYPED = [
    "shared/src",
    "gateway/src",
    "payment-router/src",
    "payment-router/microservices/simulator/src",
    "payment-router/microservices/mtnmomo/src",
    "payment-router/microservices/razorpay/src",
    "payment-router/microservices/paypal/src",
    "payment-router/microservices/generic/src",
    "ledger/src",
    "notifier/src",
    "reporter/src",
    "portal-api/src",
    "dev/src",
    "bench",
]


def _run(
    title: str,
    command: list[str],
    say: Callable[[str], None],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> bool:
    done = run_told(command, title, say, env=env, cwd=cwd)
    say(f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {title}")
    if done.returncode:
        print(done.output[-6000:])
    return done.returncode == 0


def generated_documents() -> dict[Path, bytes]:
    """Return every generated document's path and its text as the code makes it now."""
    from mospay_shared.contracts.export import catalogue, documents

    wanted = {ROOT / "shared/schemas" / name: text for name, text in documents().items()}
    wanted[ROOT / "docs/messages.md"] = catalogue().encode()
    for spec in SERVICES.values():
        for kind in ("openapi", "asyncapi"):
            done = subprocess.run(
                [sys.executable, "-m", spec.package, kind],
                cwd=ROOT,
                capture_output=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{spec.name} {kind}: {done.stderr.decode()[-1500:]}")
            wanted[spec.folder / f"{kind}.json"] = done.stdout
    return wanted


def _documents(say: Callable[[str], None]) -> bool:
    try:
        wanted = generated_documents()
    except RuntimeError as error:
        say(f"FAILED  generated documents: {error}")
        return False
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_bytes() != text]
    extra = [p for p in (ROOT / "shared/schemas").glob("*.json") if p not in wanted]
    say(f"{'FAILED' if stale or extra else 'ok    '}  generated documents are committed as made")
    for path in (*stale, *extra):
        print(f"  stale: {path.relative_to(ROOT)} (./mospay generate writes it)")
    return not (stale or extra)


def write_documents() -> None:
    """Write all generated documents."""
    for path, text in generated_documents().items():
        path.write_bytes(text)


def run_all(say: Callable[[str], None]) -> bool:
    """Run every check, all of them even if one fails; say which failed."""
    lint_imports = [str(_BIN / "lint-imports"), "--no-cache"]
    results = [
        _run("format (ruff)", [str(_BIN / "ruff"), "format", "--check", "."], say),
        _run("lint (ruff)", [str(_BIN / "ruff"), "check", "."], say),
        _run("types (mypy --strict)", [str(_BIN / "mypy"), *_TYPED], say),
        _run("imports (import-linter)", lint_imports, say),
        _documents(say),
    ]
    if (web.WEB / "package-lock.json").exists():
        web.install_modules(say)
        env = web.npm_environment(say)
        for title, script in (("web UI (biome, tsc)", "check"), ("web UI (vitest)", "test")):
            results.append(_run(title, ["npm", "run", script], say, cwd=web.WEB, env=env))
    return all(results)
