"""Rules of facts, periods and pages; pure."""
