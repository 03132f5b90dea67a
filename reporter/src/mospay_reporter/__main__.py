"""`python -m mospay_reporter [serve|migrate|openapi|asyncapi]`."""

from mospay_shared.chassis.main import run

from mospay_reporter.app import build

run(build)
