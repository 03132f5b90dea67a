"""`python -m mospay_payment_router [migrate|openapi|asyncapi]`."""

from mospay_shared.chassis.main import run

from mospay_payment_router.app import build

run(build)
