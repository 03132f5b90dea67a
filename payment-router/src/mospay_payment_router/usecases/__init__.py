"""The verbs of the router: take commands, believe answers, ask again, match callbacks."""
