"""`python -m mospay_ledger [serve|migrate|openapi|asyncapi]`."""

from mospay_shared.chassis.main import run

from mospay_ledger.app import build

run(build)
