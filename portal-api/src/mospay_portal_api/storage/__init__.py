"""All SQL of portal-api, by noun."""
