"""The three instances as one: chosen ports and passwords are remembered below one folder."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from mospay_dev.infrastructure.binaries import find_binaries
from mospay_dev.infrastructure.clocks import Clocks
from mospay_dev.infrastructure.containers import Containers, daemon_answers
from mospay_dev.infrastructure.instances import Postgres, Rabbit, Redis, vhost_script
from mospay_dev.infrastructure.keys import load_keys
from mospay_dev.infrastructure.packages import install
from mospay_dev.infrastructure.processes import (
    Spawned,
    StartFailed,
    StateFile,
    free_port,
    port_is_free,
)

Say = Callable[[str], None]
KINDS = ("postgres", "redis", "rabbitmq")
_PORTS = ("postgres", "rabbitmq", "rabbitmq_dist", "epmd", "redis")
_FROM_ENVIRONMENT = {
    "postgres": "MOSPAY_POSTGRES_URL",
    "rabbitmq": "MOSPAY_BROKER_URL",
    "redis": "MOSPAY_REDIS_URL",
}
_TITLES = {"postgres": "PostgreSQL", "rabbitmq": "RabbitMQ", "redis": "Redis"}


class Cluster:
    """PostgreSQL, RabbitMQ and Redis of one folder.

    URLs in the environment win over our own; `docker` asks for containers where a daemon answers.
    `clocks` gives PostgreSQL one that can be moved; RabbitMQ and Redis only count seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool,
        say: Say = lambda _: None,
        docker: bool = False,
        clocks: Clocks | None = None,
    ) -> None:
        self.folder, self._durable, self._say, self._clocks = folder, durable, say, clocks
        self.state = StateFile(folder / "cluster.json")
        self._asked_for_docker = docker
        self._given = {k: os.environ.get(v, "") for k, v in _FROM_ENVIRONMENT.items()}
        self._processes: dict[str, Spawned] = {}
        self._ports: dict[str, int] = {}
        self._docker = False
        self._read()

    @cached_property
    def keys(self) -> dict[str, str]:
        """Every generated password and key of this folder."""
        return load_keys(self.folder)

    def _read(self) -> None:
        state = self.state.read()
        processes, ports = state.get("processes"), state.get("ports")
        if isinstance(processes, dict):
            self._processes = {k: Spawned.from_json(v) for k, v in processes.items()}
        if isinstance(ports, dict):
            self._ports = {k: int(v) for k, v in ports.items()}
        self._docker = state.get("docker") is True

    def _write(self) -> None:
        processes = {k: p.to_json() for k, p in self._processes.items()}
        self.state.write({"ports": self._ports, "processes": processes, "docker": self._docker})

    def _keep(self, name: str, process: Spawned) -> None:
        self._processes[name] = process
        self._write()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock: two starts at once would be two servers on one data folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "cluster.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            yield

    def _alive(self, name: str) -> bool:
        if self._docker and name in KINDS:
            return name in self._ports and self._containers.running(name)
        return name in self._processes and self._processes[name].alive

    def _choose_ports(self) -> None:
        owners = {"rabbitmq_dist": "rabbitmq"}
        for name in _PORTS:
            port = self._ports.get(name)
            if port is None or not (self._alive(owners.get(name, name)) or port_is_free(port)):
                self._ports[name] = free_port(set(self._ports.values()))
        self._write()

    @property
    def _postgres(self) -> Postgres:
        port, password = self._ports["postgres"], self.keys["postgres"]
        return Postgres(self.folder, port, password, self._clocks)

    @property
    def _rabbit(self) -> Rabbit:
        return Rabbit(
            self.folder,
            port=self._ports["rabbitmq"],
            dist_port=self._ports["rabbitmq_dist"],
            epmd_port=self._ports["epmd"],
            password=self.keys["rabbitmq"],
        )

    @property
    def _redis(self) -> Redis:
        return Redis(self.folder, self._ports["redis"], self.keys["redis"])

    @property
    def _containers(self) -> Containers:
        return Containers(self.folder, self._ports, self.keys)

    @property
    def postgres_url(self) -> str:
        """The superuser's URL."""
        return self._given["postgres"] or self._postgres.url()

    @property
    def broker_url(self) -> str:
        """The broker's URL, default virtual host."""
        return self._given["rabbitmq"] or self._rabbit.url()

    @property
    def redis_url(self) -> str:
        """The cache's URL."""
        return self._given["redis"] or self._redis.url

    def start(self) -> None:
        """Start what does not run yet; an interrupted start leaves nothing running."""
        wanted = [kind for kind in KINDS if not self._given[kind]]
        for kind in KINDS:
            if kind not in wanted:
                self._say(f"using the {_TITLES[kind]} that {_FROM_ENVIRONMENT[kind]} names")
        if not wanted:
            return
        with self._alone():
            self._choose_kind()
            self._choose_ports()
            try:
                for kind in wanted:
                    if not self._alive(kind):
                        self._start_one(kind)
            except BaseException:
                self._stop()
                raise

    def _choose_kind(self) -> None:
        """Settle whether containers are used; data of one kind is no use to the other."""
        if self._docker or not self._asked_for_docker:
            return
        if not daemon_answers():
            self._say("no Docker daemon answers, so the installed programs are used")
        elif self._ports:
            raise StartFailed(
                "this stack was made without --docker; `./mospay down --purge` deletes it"
            )
        else:
            self._docker = True

    def _start_one(self, kind: str) -> None:
        where = f"127.0.0.1:{self._ports[kind]}"
        if self._docker:
            self._say(f"starting {_TITLES[kind]} on {where} in a container")
            self._containers.pull(kind)
            self._containers.start(kind, durable=self._durable)
            return
        missing = [name for name in find_binaries().missing if not self._given[name]]
        if missing:
            install(missing, self._say)
        about = " (about 6 s)" if kind == "rabbitmq" else ""
        self._say(f"starting {_TITLES[kind]} on {where}{about}")
        if kind == "postgres":
            self._postgres.start(self._keep, durable=self._durable)
        elif kind == "redis":
            self._redis.start(self._keep)
        else:
            if self._alive("epmd"):
                self._processes["epmd"].stop(2)
            self._rabbit.start(self._keep)

    def restart(self, name: str) -> None:
        """Stop one instance hard (`kill -9`) and start it again: what crash tests do."""
        self.kill(name)
        self.start()

    def kill(self, name: str) -> None:
        """End one instance at once, as a power cut would."""
        if self._docker:
            self._containers.stop(name, seconds=0)
        with suppress(KeyError):
            self._processes[name].stop(0.0)

    def stop_one(self, name: str) -> None:
        """Stop one instance properly."""
        if self._docker:
            self._containers.stop(name)
        elif name == "rabbitmq":
            self._rabbit.stop(self._processes)
        elif name == "postgres":
            self._postgres.stop(self._processes[name])
        else:
            self._processes[name].stop(10)

    def stop(self) -> None:
        """Stop everything this folder's state names; leaves no process."""
        if self.state.path.exists():
            with self._alone():
                self._stop()

    def _stop(self) -> None:
        for name in ("rabbitmq", "redis", "postgres"):
            if self._alive(name):
                self._say(f"stopping {_TITLES[name]}")
                self.stop_one(name)
        for process in self._processes.values():
            process.stop(5)
        self._processes = {}
        self._write()

    def running(self) -> dict[str, bool]:
        """Return each instance and whether it runs."""
        return {kind: bool(self._given[kind]) or self._alive(kind) for kind in KINDS}

    def make_vhost(self, name: str) -> str:
        """Make an empty virtual host and return its URL; a given broker is used as it is."""
        if self._given["rabbitmq"]:
            return self._given["rabbitmq"]
        self._control("eval", vhost_script(name, Rabbit.user))
        return self._rabbit.url(name)

    def drop_vhost(self, name: str) -> None:
        """Delete a virtual host and everything in it."""
        if not self._given["rabbitmq"]:
            self._control("delete_vhost", name)

    def limit_queue(self, name: str, messages: int | None) -> None:
        """Make a queue full from so many messages on (None: as it was), by a broker policy."""
        policy = f"limit-{name}"
        if messages is None:
            self._control("clear_policy", policy)
        else:
            definition = f'{{"max-length": {messages}}}'
            pattern = f"^{re.escape(name)}$"
            self._control("set_policy", policy, pattern, definition, "--apply-to", "queues")

    def _control(self, *arguments: str) -> str:
        return (self._containers if self._docker else self._rabbit).control(*arguments)

    def purge(self) -> None:
        """Delete the data of stopped instances, the keys and the logs; keep installed tools."""
        if any(self._alive(kind) for kind in KINDS):
            raise StartFailed("still running; stop it first")
        if self._docker:
            self._containers.purge()
        pointer = self.folder / "postgres.path"  # PostgreSQL may live outside a private home
        if pointer.exists():
            shutil.rmtree(Path(pointer.read_text()).parent, ignore_errors=True)
        for name in ("postgres", "rabbitmq", "redis", "logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for pattern in ("*.json", "*.log", "*.sqlite*", "*.lock", "postgres.path"):
            for path in self.folder.glob(pattern):
                path.unlink()
