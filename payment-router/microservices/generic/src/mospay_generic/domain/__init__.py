"""Pure rules: the wire to the router, and what the provider's words mean."""
