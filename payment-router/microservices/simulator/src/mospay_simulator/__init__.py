"""A payment provider that plays every outcome and remembers each effect."""
