"""`python -m mospay_gateway [serve|migrate|openapi|asyncapi]`."""

from mospay_shared.chassis.main import run

from mospay_gateway.app import build

run(build)
