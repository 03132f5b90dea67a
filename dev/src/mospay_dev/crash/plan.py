"""Plans of random faults: the same seed, minutes and targets make the same plan, byte for byte."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from mospay_dev.services import SERVICES

QUIET_SECONDS = 2.0  # of load before the first fault
HEAL_SECONDS = 5.0  # at the end nothing new is broken
GAP_SECONDS = (0.8, 3.5)  # between the beginnings of two faults; they may overlap
REPLICAS = ("gateway@2", "payment-router@2")
BACKINGS = ("postgres", "broker", "redis")
Value = float | int | str | bool


@dataclass(frozen=True)
class Fault:
    """One fault: when (seconds from the start of the load), what, where, how."""

    at_second: float
    kind: str
    target: str
    parameters: dict[str, Value] = field(default_factory=dict)

    def words(self) -> str:
        """Return the fault as one line."""
        more = " ".join(f"{k}={v}" for k, v in self.parameters.items())
        return f"{self.at_second:7.1f} s  {self.kind:<18} {self.target:<28} {more}".rstrip()


# How often a kind is drawn, against the others.
WEIGHTS = {
    "kill": 10,  # -9; started again after `seconds`
    "pause": 6,  # SIGSTOP, SIGCONT after `seconds`
    "terminate": 3,  # SIGTERM: a proper end, started again
    "kill_broker": 1,
    "kill_database": 1,
    "kill_redis": 1,
    "cut": 8,  # reset the connections of a proxy
    "refuse": 3,  # and take no new ones for `seconds`
    "blackhole": 4,  # accept and never answer
    "slow": 4,  # latency and narrow bandwidth
    "cut_after": 3,  # each connection ends after so many bytes
    "half_close": 2,
    "provider_503": 2,  # a proxy answers in the provider's place, having passed the request on
    "duplicate": 4,  # packs published again as they were
    "reorder": 4,  # packs published again in another order
    "malformed": 3,  # bodies that are no packs, packs that are no events
    "clock": 2,  # the simulator's clock moves ahead
}


def make_plan(seed: int, seconds: float, *, replicas: bool = True) -> list[Fault]:
    """Return the faults of a run, in the order of their beginnings."""
    rng = random.Random(f"mospay crash plan {seed} {seconds:g} {replicas}")
    processes = [*SERVICES, *(REPLICAS if replicas else ()), "simulator", "receiver"]
    kinds, weights = zip(*WEIGHTS.items(), strict=True)
    plan: list[Fault] = []
    at = QUIET_SECONDS
    while at < seconds - HEAL_SECONDS:
        kind = rng.choices(kinds, weights)[0]
        plan.append(_fault(rng, round(at, 1), kind, processes))
        at += rng.uniform(*GAP_SECONDS)
    return plan


def _fault(rng: random.Random, at: float, kind: str, processes: Sequence[str]) -> Fault:
    services = [name for name in processes if name not in ("simulator", "receiver")]
    proxies = [
        *(f"{name}:{backing}" for name in services for backing in BACKINGS),
        *["simulator", "receiver"] * 4,
    ]
    seconds = round(rng.uniform(0.5, 6.0), 1)
    match kind:
        case "kill" | "terminate":
            return Fault(at, kind, rng.choice(processes), {"seconds": round(seconds / 4, 1)})
        case "pause":
            return Fault(at, kind, rng.choice(services), {"seconds": round(seconds * 2, 1)})
        case "kill_broker" | "kill_database" | "kill_redis":
            name = {"kill_broker": "rabbitmq", "kill_database": "postgres"}.get(kind, "redis")
            return Fault(at, kind, name, {"seconds": round(seconds / 2, 1)})
        case "cut" | "half_close":
            return Fault(at, kind, rng.choice(proxies))
        case "refuse" | "blackhole":
            return Fault(at, kind, rng.choice(proxies), {"seconds": seconds})
        case "slow":
            how = {
                "latency_seconds": round(rng.uniform(0.02, 0.8), 2),
                "bytes_per_second": rng.choice([20_000, 100_000, 1_000_000]),
            }
            return Fault(at, kind, rng.choice(proxies), {"seconds": seconds, **how})
        case "cut_after":
            size = rng.choice([200, 2_000, 20_000, 100_000])
            return Fault(at, kind, rng.choice(proxies), {"seconds": seconds, "bytes": size})
        case "provider_503":
            forwards = rng.random() < 0.5
            return Fault(
                at, kind, "simulator", {"seconds": round(seconds / 3, 1), "forwards": forwards}
            )
        case "duplicate" | "reorder":
            return Fault(at, kind, "messages", {"packs": rng.randint(5, 40), "order": rng.random()})
        case "malformed":
            return Fault(at, kind, "messages", {"packs": rng.randint(1, 5), "order": rng.random()})
    return Fault(at, "clock", "simulator", {"advance_seconds": rng.randint(1, 600)})


def plan_json(plan: Sequence[Fault]) -> list[dict[str, object]]:
    """Return a plan as it is written to the run's file."""
    return [asdict(fault) for fault in plan]
