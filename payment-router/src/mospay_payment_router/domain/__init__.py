"""Pure rules of the router: states, belief in answers, function names, slots, back-off."""
