"""Rules of the portal, pure: who may what, what the directory accepts, what a trace means."""
