"""A month of business through the real services: their clocks are moved a day at a time."""
