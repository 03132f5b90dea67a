"""`python -m mospay_ledger [serve|migrate|openapi|asyncapi|verify]`."""

import sys

from mospay_shared.chassis.main import run

from mospay_ledger.app import build, verify_chain

if sys.argv[1:2] == ["verify"]:
    sys.exit(verify_chain(sys.argv[2:]))
run(build)
