"""Pure rules of the gateway: who calls, what may be asked for, what a payment is."""
