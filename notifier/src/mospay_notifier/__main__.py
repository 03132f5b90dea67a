"""`python -m mospay_notifier [serve|migrate|openapi|asyncapi]`."""

from mospay_shared.chassis.main import run

from mospay_notifier.app import build

run(build)
