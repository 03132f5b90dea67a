"""The three instances as one: chosen ports and passwords are remembered below one folder."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mospay_dev.infrastructure.instances import Binaries, Postgres, Rabbit, Redis, find_binaries
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
_PORTS = ("postgres", "rabbitmq", "rabbitmq_dist", "epmd", "redis")
_FROM_ENVIRONMENT = {
    "postgres": "MOSPAY_POSTGRES_URL",
    "rabbitmq": "MOSPAY_BROKER_URL",
    "redis": "MOSPAY_REDIS_URL",
}


class Cluster:
    """PostgreSQL, RabbitMQ and Redis of one folder. URLs in the environment win over our own."""

    def __init__(self, folder: Path, *, durable: bool, say: Say = lambda _: None) -> None:
        self.folder, self._durable, self._say = folder, durable, say
        self.state = StateFile(folder / "cluster.json")
        self.keys = load_keys(folder)
        self._given = {k: os.environ.get(v, "") for k, v in _FROM_ENVIRONMENT.items()}
        self._processes: dict[str, Spawned] = {}
        self._ports: dict[str, int] = {}
        self._read()

    def _read(self) -> None:
        state = self.state.read()
        processes, ports = state.get("processes"), state.get("ports")
        if isinstance(processes, dict):
            self._processes = {k: Spawned.from_json(v) for k, v in processes.items()}
        if isinstance(ports, dict):
            self._ports = {k: int(v) for k, v in ports.items()}

    def _write(self) -> None:
        processes = {k: p.to_json() for k, p in self._processes.items()}
        self.state.write({"ports": self._ports, "processes": processes})

    def _alive(self, name: str) -> bool:
        return name in self._processes and self._processes[name].alive

    def _choose_ports(self) -> None:
        owners = {"rabbitmq_dist": "rabbitmq"}
        for name in _PORTS:
            port = self._ports.get(name)
            if port is None or not (self._alive(owners.get(name, name)) or port_is_free(port)):
                self._ports[name] = free_port(set(self._ports.values()))

    def _instances(self, binaries: Binaries) -> tuple[Postgres, Rabbit, Redis]:
        assert binaries.postgres and binaries.rabbitmq and binaries.redis
        return (
            Postgres(
                self.folder, binaries.postgres, self._ports["postgres"], self.keys["postgres"]
            ),
            Rabbit(
                self.folder,
                binaries.rabbitmq,
                port=self._ports["rabbitmq"],
                dist_port=self._ports["rabbitmq_dist"],
                epmd_port=self._ports["epmd"],
                password=self.keys["rabbitmq"],
            ),
            Redis(self.folder, binaries.redis, self._ports["redis"], self.keys["redis"]),
        )

    @property
    def postgres(self) -> Postgres:
        """The PostgreSQL instance (after `start`)."""
        return self._instances(find_binaries())[0]

    @property
    def rabbit(self) -> Rabbit:
        """The RabbitMQ instance (after `start`)."""
        return self._instances(find_binaries())[1]

    @property
    def postgres_url(self) -> str:
        """The superuser's URL."""
        return self._given["postgres"] or self.postgres.url()

    @property
    def broker_url(self) -> str:
        """The broker's URL, default virtual host."""
        return self._given["rabbitmq"] or self.rabbit.url()

    @property
    def redis_url(self) -> str:
        """The cache's URL."""
        return self._given["redis"] or self._instances(find_binaries())[2].url

    def start(self) -> None:
        """Start what does not run yet; an interrupted start leaves nothing running."""
        if all(self._given.values()):
            self._say("using the PostgreSQL, RabbitMQ and Redis named in the environment")
            return
        binaries = find_binaries()
        if binaries.missing:
            install(binaries.missing, self._say)
            binaries = find_binaries()
        self._choose_ports()
        postgres, rabbit, redis = self._instances(binaries)
        try:
            if not self._given["postgres"] and not self._alive("postgres"):
                self._say(f"starting PostgreSQL on 127.0.0.1:{postgres.port}")
                self._keep(postgres=postgres.start(durable=self._durable))
            if not self._given["redis"] and not self._alive("redis"):
                self._say(f"starting Redis on 127.0.0.1:{redis.port}")
                self._keep(redis=redis.start())
            if not self._given["rabbitmq"] and not self._alive("rabbitmq"):
                self._say(f"starting RabbitMQ on 127.0.0.1:{rabbit.port} (about 6 s)")
                if self._alive("epmd"):
                    self._processes["epmd"].stop(2)
                self._keep(**rabbit.start())
        except BaseException:
            self.stop()
            raise

    def _keep(self, **processes: Spawned) -> None:
        self._processes |= processes
        self._write()

    def restart(self, name: str) -> None:
        """Stop one instance hard (`kill -9`) and start it again: what crash tests do."""
        self.kill(name)
        self.start()

    def kill(self, name: str) -> None:
        """End one instance at once, as a power cut would."""
        with suppress(KeyError):
            self._processes[name].stop(0.0)

    def stop_one(self, name: str) -> None:
        """Stop one instance properly."""
        postgres, rabbit, _ = self._instances(find_binaries())
        if name == "rabbitmq":
            rabbit.stop(self._processes)
        elif name == "postgres":
            postgres.stop(self._processes[name])
        else:
            self._processes[name].stop(10)

    def stop(self) -> None:
        """Stop everything this folder's state names; leaves no process."""
        if self._ports:
            for name in ("rabbitmq", "redis", "postgres"):
                if self._alive(name):
                    self._say(f"stopping {name}")
                    self.stop_one(name)
        for process in self._processes.values():
            process.stop(5)
        self._processes = {}
        if self.state.path.exists():
            self._write()

    def running(self) -> dict[str, bool]:
        """Return each instance and whether it runs."""
        return {name: self._alive(name) for name in ("postgres", "rabbitmq", "redis")}

    def purge(self) -> None:
        """Delete the data of stopped instances, the keys and the logs; keep installed tools."""
        if any(self.running().values()):
            raise StartFailed("still running; stop it first")
        pointer = self.folder / "postgres.path"  # PostgreSQL may live outside a private home
        if pointer.exists():
            shutil.rmtree(Path(pointer.read_text()).parent, ignore_errors=True)
        for name in ("postgres", "rabbitmq", "redis", "logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for pattern in ("*.json", "*.log", "*.sqlite*", "postgres.path"):
            for path in self.folder.glob(pattern):
                path.unlink()
