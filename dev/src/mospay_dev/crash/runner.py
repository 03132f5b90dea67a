"""Random faults under load: carries out a plan, heals everything, and holds the inquest."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from mospay_dev.crash.house import House
from mospay_dev.crash.inquest import inquire
from mospay_dev.crash.mix import Mix, Sent
from mospay_dev.crash.plan import REPLICAS, Fault, make_plan, plan_json
from mospay_dev.infrastructure.processes import StartFailed
from mospay_dev.proxy import Proxy

SPY = "crash.random"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GARBAGE = (
    b"",
    b"not json",
    b"\x00\xff\xfe",
    b"[]",
    b"[1, null]",
    b'[{"specversion": "1.0"}]',
    b"{}",
)
KEYS = ("payment.succeeded.v1", "payment.failed.v1", "payments.process.v1", "payments.callback.v1")
Say = Callable[[str], None]


class Faults:
    """Carries faults out and ends them; one thread each, so that they may overlap."""

    def __init__(self, house: House) -> None:
        self._house, self._stack = house, house.stack
        self._starting = threading.Lock()
        self.troubles: list[str] = []

    def run(self, fault: Fault) -> None:
        """Carry out one fault from its beginning to its end."""
        try:
            getattr(self, f"_{fault.kind}")(fault)
        except (StartFailed, TimeoutError, httpx.HTTPError, OSError, KeyError) as error:
            self.troubles.append(f"{fault.words()}: {type(error).__name__} {error}"[:300])

    def _sleep(self, fault: Fault) -> None:
        time.sleep(float(fault.parameters["seconds"]))

    def _proxy(self, fault: Fault) -> Proxy:
        name, _, backing = fault.target.partition(":")
        return self._stack.proxy(name, backing)

    def _start(self, name: str) -> None:
        with self._starting:
            if not self._stack.alive(name):
                self._stack.start_process(name)

    def _kill(self, fault: Fault) -> None:
        self._stack.kill(fault.target)
        self._sleep(fault)
        self._start(fault.target)

    def _terminate(self, fault: Fault) -> None:
        self._stack.resume(fault.target)
        self._stack.stop_one(fault.target)
        self._sleep(fault)
        self._start(fault.target)

    def _pause(self, fault: Fault) -> None:
        self._stack.pause(fault.target)
        self._sleep(fault)
        self._stack.resume(fault.target)

    def _kill_broker(self, fault: Fault) -> None:
        self._stack.cluster.kill(fault.target)
        self._sleep(fault)
        self._stack.cluster.start()

    _kill_database = _kill_broker
    _kill_redis = _kill_broker

    def _cut(self, fault: Fault) -> None:
        self._proxy(fault).cut()

    def _half_close(self, fault: Fault) -> None:
        self._proxy(fault).half_close()

    def _spoilt(self, fault: Fault, **how: Any) -> None:
        self._proxy(fault).spoil(**how)
        self._sleep(fault)
        self._proxy(fault).heal()

    def _refuse(self, fault: Fault) -> None:
        self._proxy(fault).refuse()
        self._sleep(fault)
        self._proxy(fault).heal()

    def _blackhole(self, fault: Fault) -> None:
        self._spoilt(fault, held=frozenset({"up", "down"}))

    def _slow(self, fault: Fault) -> None:
        how = {k: v for k, v in fault.parameters.items() if k != "seconds"}
        self._spoilt(fault, **how)

    def _cut_after(self, fault: Fault) -> None:
        self._spoilt(fault, cut_after_bytes=int(fault.parameters["bytes"]))

    def _provider_503(self, fault: Fault) -> None:
        forwards = bool(fault.parameters["forwards"])
        self._spoilt(fault, answer=BUSY, answer_forwards=forwards)

    def _again(self, fault: Fault, *, shuffled: bool) -> None:
        """Publish packs again that were on the wire already; events inside change places too."""
        rng = random.Random(float(fault.parameters["order"]))
        packs = self._house.take(SPY, 400)
        picked = rng.sample(packs, min(len(packs), int(fault.parameters["packs"])))
        for exchange, key, body in picked:
            events = json.loads(body)
            if shuffled:
                rng.shuffle(events)
            self._house.publish(exchange, [(key, json.dumps(events).encode())])

    def _duplicate(self, fault: Fault) -> None:
        self._again(fault, shuffled=False)

    def _reorder(self, fault: Fault) -> None:
        self._again(fault, shuffled=True)

    def _malformed(self, fault: Fault) -> None:
        rng = random.Random(float(fault.parameters["order"]))
        for _ in range(int(fault.parameters["packs"])):
            key = rng.choice(KEYS)
            exchange = "mospay.commands" if key.startswith("payments.") else "mospay.events"
            self._house.publish(exchange, [(key, rng.choice(GARBAGE))])

    def _clock(self, fault: Fault) -> None:
        url = f"{self._house.seed.simulator_url}/_clock"
        seconds = fault.parameters["advance_seconds"]
        httpx.post(url, json={"advance_seconds": seconds}, timeout=10).raise_for_status()


def run_faults(
    house: House, *, seed: int, seconds: float, rate: float, folder: Path, say: Say
) -> dict[str, Any]:
    """Run a seed's plan under load and return its report; it is written to `run-<seed>.json`."""
    plan = make_plan(seed, seconds)
    say(f"seed {seed}: {len(plan)} faults in {seconds:g} s, {rate:g} payments a second")
    for fault in plan:
        say(fault.words())
    for name in REPLICAS:
        house.replicate(name.partition("@")[0])
    bindings = [("mospay.events", "payment.#"), ("mospay.commands", "payments.#")]
    house.spy(SPY, bindings)
    gateways = (house.seed.gateway_url, house.stack.url("gateway@2"))
    mix = Mix(house.seed, gateways, seed)
    faults = Faults(house)
    load = threading.Thread(target=lambda: asyncio.run(mix.steady(rate, seconds)), daemon=True)
    started = time.monotonic()
    load.start()
    with ThreadPoolExecutor(64) as pool:
        jobs = []
        for fault in plan:
            time.sleep(max(0.0, started + fault.at_second - time.monotonic()))
            say(f"now {fault.words()}")
            jobs.append(pool.submit(faults.run, fault))
        wait(jobs)
    say("healing everything")
    sent = _healed(house, load, mix)
    say(f"{len(sent.payments)} payments accepted; waiting until each has ended everywhere")
    found = inquire(house, sent, seconds=240)
    for name in list(house.replicas):
        house.stack.stop_one(name)
        house.replicas.discard(name)
    house.unspy(SPY)
    report = {
        "seed": seed,
        "seconds": seconds,
        "rate": rate,
        "plan": plan_json(plan),
        "scenarios": {str(k): v for k, v in sorted(sent.scenarios.items())},
        "troubles_of_the_suite": faults.troubles,
        "audit": found,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run-{seed}.json"
    path.write_text(json.dumps(report, indent=2, default=str) + "\n")
    say(json.dumps(found, indent=2, default=str))
    say(f"written to {path}")
    return report


def _healed(house: House, load: threading.Thread, mix: Mix) -> Sent:
    """Make everything whole with both replicas still up, and let the clients finish."""
    house.stack.cluster.start()
    house.stack.heal()
    for name in house.stack.processes:
        house.stack.resume(name)
    for attempt in range(3):  # a process that a fault had crippled may end on its way up
        with suppress(StartFailed):
            house.stack.start((*house.stack.processes,))
            break
        if attempt == 2:
            raise StartFailed("not everything came back")
    load.join(150)
    if load.is_alive():
        raise TimeoutError("clients still wait for answers although everything is healed")
    return mix.sent
