"""What the reporter does: facts in (`recording`), figures out (`reading`)."""
