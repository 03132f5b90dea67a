"""PostgreSQL, RabbitMQ and Valkey as containers, for who asks for them with `--docker`."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from mospay_dev.infrastructure.instances import LOOPBACK, Rabbit, speaks_amqp
from mospay_dev.infrastructure.processes import StartFailed, wait_for

_IMAGES = {
    "postgres": "postgres:17-bookworm",
    "rabbitmq": "rabbitmq:4",
    "redis": "valkey/valkey:8-alpine",
}
_PORTS = {"postgres": 5432, "rabbitmq": 5672, "redis": 6379}
_DATA = {"postgres": "/var/lib/postgresql/data", "rabbitmq": "/var/lib/rabbitmq"}
_READY_SECONDS = 180.0  # the first start pulls nothing (that is done before) but may be slow


def daemon_answers() -> bool:
    """Say whether there is a Docker client and a daemon behind it."""
    return shutil.which("docker") is not None and _docker("info").returncode == 0


def _docker(
    *arguments: str, secrets: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    # Secrets travel in the environment (`-e NAME` without a value), never on a command line.
    return subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **(secrets or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def _must(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode:
        words = " ".join(str(part) for part in done.args[:3])
        raise StartFailed(f"{words} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


class Containers:
    """The three containers of one folder; only loopback reaches their ports."""

    def __init__(self, folder: Path, ports: Mapping[str, int], keys: Mapping[str, str]) -> None:
        self._ports, self._keys = ports, keys
        self._stem = f"mospay-{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"

    def name(self, kind: str) -> str:
        """Return a container's name, which is its volume's too."""
        return f"{self._stem}-{kind}"

    def pull(self, kind: str) -> None:
        """Fetch the image unless it is here."""
        if _docker("image", "inspect", _IMAGES[kind]).returncode:
            _must(_docker("pull", "-q", _IMAGES[kind]))

    def running(self, kind: str) -> bool:
        """Say whether a container runs."""
        asked = _docker("inspect", "-f", "{{.State.Running}}", self.name(kind))
        return asked.stdout.strip() == "true"

    def start(self, kind: str, *, durable: bool) -> None:
        """Start one container and wait until its server answers."""
        _docker("rm", "-f", self.name(kind))
        options = ["run", "-d", "--name", self.name(kind)]
        options += ["--hostname", kind]  # RabbitMQ's data belongs to a host name
        options += ["-p", f"{LOOPBACK}:{self._ports[kind]}:{_PORTS[kind]}"]
        if kind in _DATA:
            options += ["-v", f"{self.name(kind)}:{_DATA[kind]}"]
        secrets, command = self._settings(kind, durable)
        for variable in secrets:
            options += ["-e", variable]
        _must(_docker(*options, _IMAGES[kind], *command, secrets=secrets))
        wait_for(lambda: self._answers(kind), f"{kind} (a container)", seconds=_READY_SECONDS)

    def _settings(self, kind: str, durable: bool) -> tuple[dict[str, str], list[str]]:
        password = self._keys[kind]
        if kind == "postgres":
            command = ["postgres", "-c", "max_connections=300", "-c", "jit=off"]
            loose = ["-c", "fsync=off", "-c", "synchronous_commit=off"]
            return {"POSTGRES_PASSWORD": password}, command + ([] if durable else loose)
        if kind == "rabbitmq":
            return {"RABBITMQ_DEFAULT_USER": Rabbit.user, "RABBITMQ_DEFAULT_PASS": password}, []
        script = 'exec valkey-server --save "" --appendonly no --requirepass "$VALKEY_PASSWORD"'
        return {"VALKEY_PASSWORD": password}, ["sh", "-c", script]

    def _answers(self, kind: str) -> bool:
        if kind == "rabbitmq":
            return speaks_amqp(self._ports[kind])
        tools = {"postgres": ["pg_isready", "-q", "-h", LOOPBACK], "redis": ["valkey-cli", "ping"]}
        return _docker("exec", self.name(kind), *tools[kind]).returncode == 0

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl in the broker's container and return its output."""
        return _must(_docker("exec", self.name("rabbitmq"), "rabbitmqctl", "-q", *arguments))

    def stop(self, kind: str, *, seconds: int = 30) -> None:
        """Stop and remove one container (0 seconds: at once); its data stays in its volume."""
        _docker("stop", "-t", str(seconds), self.name(kind))
        _docker("rm", "-f", self.name(kind))

    def purge(self) -> None:
        """Delete the volumes of stopped containers."""
        for kind in _DATA:
            _docker("volume", "rm", "-f", self.name(kind))
