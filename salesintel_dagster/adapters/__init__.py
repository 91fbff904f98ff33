"""Ring 3: one outside system each, one port each, the client passed in."""
