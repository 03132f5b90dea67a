"""HTTP in: the browsers' API, the live stream, the web UI's files."""
