"""All SQL of the router, by what it is about."""
