"""What the simulated provider does, decided without any I/O, split by noun."""
