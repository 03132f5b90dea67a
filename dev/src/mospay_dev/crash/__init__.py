"""The crash suite's house: a durable stack behind proxies, its faults, plans and reports."""
