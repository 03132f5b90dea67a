"""The whole house on one machine: instances, databases, services, simulator, webhook receiver."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mospay_dev.environment import Backing, service_environment
from mospay_dev.infrastructure.clocks import Clocks
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import make_database, migrate
from mospay_dev.infrastructure.processes import (
    Spawned,
    StartFailed,
    StateFile,
    free_port,
    port_is_free,
    spawn,
    tail,
)
from mospay_dev.proxy import Proxies, Proxy
from mospay_dev.services import ROOT, SERVICES

Say = Callable[[str], None]
EXTRAS = ("simulator", "receiver")  # the demo's payment provider and webhook receiver
BACKINGS = ("postgres", "broker", "redis")  # what each process reaches through its own proxies
READY_SECONDS = 60.0
STOP_SECONDS = 35.0


class Stack:
    """A stack below one folder. Ports, pids and secrets are remembered there.

    `extra` adds variables to single services (crash tests and benches do). With `proxied` each
    process reaches PostgreSQL, broker and Redis through proxies of its own, and everybody reaches
    simulator and receiver through one each (`proxy("gateway", "broker")`, `proxy("simulator")`).
    A second process of a service is called `gateway@2`: its own port, the same database and queues.
    With `movable_clocks` each process and PostgreSQL have a clock in `clocks` that can be moved.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        say: Say = lambda _: None,
        extra: Mapping[str, Mapping[str, str]] | None = None,
        docker: bool = False,
        proxied: bool = False,
        movable_clocks: bool = False,
    ) -> None:
        self.folder, self._say = folder, say
        self._proxies = Proxies() if proxied else None
        self._clocks = Clocks(say) if movable_clocks else None
        self.cluster = Cluster(folder, durable=durable, say=say, docker=docker, clocks=self._clocks)
        self.extra: dict[str, dict[str, str]] = {k: dict(v) for k, v in (extra or {}).items()}
        self._state = StateFile(folder / "stack.json")
        self.processes: dict[str, Spawned] = {}
        self.ports: dict[str, int] = {}
        self.read()

    def read(self) -> None:
        """Take over what the state file says (another process may have written it)."""
        state = self._state.read()
        processes, ports = state.get("processes"), state.get("ports")
        if isinstance(processes, dict):
            self.processes = {k: Spawned.from_json(v) for k, v in processes.items()}
        if isinstance(ports, dict):
            self.ports = {k: int(v) for k, v in ports.items()}

    def write(self) -> None:
        """Remember ports and pids."""
        processes = {k: p.to_json() for k, p in self.processes.items()}
        self._state.write({"ports": self.ports, "processes": processes})

    def url(self, name: str) -> str:
        """Return the HTTP address of a service, the simulator or the receiver."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def reach(self, name: str) -> str:
        """Return the address by which others of this stack call it: its proxy's, if it has one."""
        return f"http://127.0.0.1:{self.ports.get(f'proxy:{name}', self.ports[name])}"

    def proxy(self, name: str, backing: str = "") -> Proxy:
        """Return the proxy before the simulator or receiver, or of a process before a backing."""
        assert self._proxies is not None, "this stack has no proxies"
        return self._proxies.named[f"{name}:{backing}" if backing else name]

    @property
    def clocks(self) -> Clocks:
        """The clocks of the processes and of `postgres`."""
        assert self._clocks is not None, "this stack's clocks can't be moved"
        return self._clocks

    def heal(self) -> None:
        """Make every proxy one that does nothing again."""
        if self._proxies is not None:
            self._proxies.heal()

    def backing(self, process: str = "") -> Backing:
        """Return what service environments are made from, as that process reaches it."""
        cluster = self.cluster
        urls = {
            "postgres": cluster.postgres_url,
            "broker": cluster.broker_url,
            "redis": cluster.redis_url,
        }
        ports = dict(self.ports)
        for name in EXTRAS:
            ports[name] = self.ports.get(f"proxy:{name}", self.ports.get(name, 1))
        for kind in BACKINGS if process else ():
            port = self.ports.get(f"proxy:{process}:{kind}")
            if port is not None:
                urls[kind] = _at_port(urls[kind], port)
        return Backing(
            postgres_url=urls["postgres"],
            broker_url=urls["broker"],
            redis_url=urls["redis"],
            keys=cluster.keys,
            ports=ports,
        )

    def log(self, name: str) -> Path:
        """Return where a process's output goes."""
        return self.folder / "logs" / f"{name}.log"

    def alive(self, name: str) -> bool:
        """Say whether that process runs."""
        return name in self.processes and self.processes[name].alive

    def prepare(self) -> None:
        """Start the instances, make and migrate the databases, declare all queues."""
        self.cluster.start()
        for name in (*SERVICES, *EXTRAS):
            port = self.ports.get(name)
            if port is None or not (self.alive(name) or port_is_free(port)):
                self.ports[name] = free_port(set(self.ports.values()))
        self._stand_between((*EXTRAS, *(f"{s}:{kind}" for s in SERVICES for kind in BACKINGS)))
        self.write()
        backing = self.backing()

        async def make() -> None:
            for spec in SERVICES.values():
                await make_database(backing.postgres_url, spec, dict(backing.keys), spec.database)

        asyncio.run(make())
        self._say("migrating six databases and declaring their queues")
        with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            jobs = {
                pool.submit(migrate, spec, self.environment(spec.name)): name
                for name, spec in SERVICES.items()
            }
            for number, job in enumerate(as_completed(jobs), 1):
                job.result()
                self._say(f"  {jobs[job]} ({number} of {len(jobs)})")

    def _stand_between(self, names: Iterable[str]) -> None:
        """Start the proxies of these names, on the ports they had before where those are free."""
        if self._proxies is None:
            return
        for name in names:
            kind = name.rpartition(":")[2]
            if kind in EXTRAS:
                target = self.ports[kind]
            else:
                url = {
                    "postgres": self.cluster.postgres_url,
                    "broker": self.cluster.broker_url,
                    "redis": self.cluster.redis_url,
                }[kind]
                target = urlsplit(url).port or 0
            key, known = f"proxy:{name}", self._proxies.named.get(name)
            port = self.ports.get(key)
            if port is None or not (known is not None or port_is_free(port)):
                port = self.ports[key] = free_port(set(self.ports.values()))
            self._proxies.add(name, target, port)

    def replicate(self, service: str, number: int = 2) -> str:
        """Make a further process of a service known, give it a port, and return its name."""
        name = f"{service}@{number}"
        port = self.ports.get(name)
        if port is None or not (self.alive(name) or port_is_free(port)):
            self.ports[name] = free_port(set(self.ports.values()))
        self._stand_between(f"{name}:{kind}" for kind in BACKINGS)
        self.write()
        return name

    def environment(self, name: str) -> dict[str, str]:
        """Return the complete environment of a process of this stack."""
        base = {k: os.environ[k] for k in ("PATH", "HOME", "TZ") if k in os.environ}
        base |= {"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}
        base |= {k: v for k, v in os.environ.items() if k.startswith("OTEL_")}
        if self._clocks is not None:
            base |= self._clocks.environment(name)
        service = name.partition("@")[0]
        if service in SERVICES:
            base |= service_environment(service, self.backing(name))
            base[SERVICES[service].prefix + "HTTP_PORT"] = str(self.ports[name])
            if service == "payment-router":  # the simulator takes a request up at once or never
                base["ROUTER_NOT_FOUND_GRACE_SECONDS"] = "10"
            if service == "portal-api":
                base["PORTAL_WEB_DIR"] = str(ROOT / "portal-api/web/dist")
        elif name == "simulator":
            base |= {
                "SIMULATOR_HTTP_PORT": str(self.ports[name]),
                "SIMULATOR_DATABASE_PATH": str(self.folder / "simulator.sqlite"),
                "SIMULATOR_CALLBACK_SECRET": self.cluster.keys["callback"],
            }
        else:
            base |= {
                "RECEIVER_HTTP_PORT": str(self.ports[name]),
                "RECEIVER_DATABASE_PATH": str(self.folder / "receiver.sqlite"),
            }
        return base | self.extra.get(service, {}) | self.extra.get(name, {})

    def start_process(self, name: str) -> Spawned:
        """Start one process without waiting for it."""
        service = name.partition("@")[0]
        module = (
            SERVICES[service].package
            if service in SERVICES
            else {"simulator": "mospay_simulator", "receiver": "mospay_dev.receiver"}[name]
        )
        process = spawn(
            [sys.executable, "-m", module],
            env=self.environment(name),
            log=self.log(name),
            cwd=self.folder,
        )
        self.processes[name] = process
        self.write()
        return process

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Wait until a process answers that it is ready; StartFailed shows its last lines."""
        path = "/healthz" if name in EXTRAS else "/readyz"
        until, said = time.monotonic() + seconds, time.monotonic() + 2
        while True:
            status, body = http_get(self.url(name) + path)
            if status == 200:
                return
            if time.monotonic() > until or not self.alive(name):
                raise StartFailed(
                    f"{name} is not ready ({body or 'no answer'}).\n"
                    f"Last lines of {self.log(name)}:\n{tail(self.log(name))}"
                )
            if time.monotonic() > said:
                self._say(f"waiting for {name}: {body[:160] or 'starting'}")
                said = time.monotonic() + 5
            time.sleep(0.1)

    def start(self, names: tuple[str, ...] = (*SERVICES, *EXTRAS)) -> None:
        """Start processes that don't run yet and wait until all are ready."""
        for name in names:
            if not self.alive(name):
                self.start_process(name)
        for name in names:
            self.wait_ready(name)

    def kill(self, name: str) -> None:
        """End one process at once (kill -9)."""
        self.processes[name].stop(0.0, signal.SIGKILL)

    def pause(self, name: str) -> None:
        """Stop one process in its tracks (SIGSTOP); it knows nothing of the time that passes."""
        self.processes[name].send(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused process go on."""
        self.processes[name].send(signal.SIGCONT)

    def stop_one(self, name: str) -> None:
        """Ask one process to end properly (SIGTERM) and wait for it."""
        self.processes[name].stop(STOP_SECONDS)

    def stop_processes(self) -> None:
        """Ask all processes to end properly, all at once, and wait."""
        self.read()
        for process in self.processes.values():
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)  # one that a test paused must hear it too
        until = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            while process.alive and time.monotonic() < until:
                time.sleep(0.05)
            process.stop(0.0, signal.SIGKILL)
        self.processes = {}
        if self._state.path.exists():
            self.write()

    def stop(self) -> None:
        """Stop processes, then the instances; leaves nothing running."""
        if self.processes:
            self._say("stopping services")
        self.stop_processes()
        if self._proxies is not None:
            self._proxies.close()
        self.cluster.stop()
        if self._clocks is not None:
            self._clocks.close()


def _at_port(url: str, port: int) -> str:
    """Return the URL with another port of this machine."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))


def http_get(url: str, seconds: float = 2.0) -> tuple[int, str]:
    """Return status and body of a GET; status 0 when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 - our own URL
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError):
        return 0, ""


def describe(stack: Stack) -> dict[str, object]:
    """Return what `status --json` prints."""
    stack.read()
    services = {}
    for name in (*SERVICES, *EXTRAS):
        alive = stack.alive(name)
        path = "/readyz" if name in SERVICES else "/healthz"
        status, body = http_get(stack.url(name) + path) if alive else (0, "")
        try:
            detail = json.loads(body)
        except ValueError:
            detail = {}
        services[name] = {
            "running": alive,
            "ready": status == 200,
            "pid": stack.processes[name].pid if alive else None,
            "url": stack.url(name) if name in stack.ports else None,
            "detail": detail,
        }
    return {"instances": stack.cluster.running(), "services": services}
