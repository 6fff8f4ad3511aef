"""Each wall of a sandbox, taken down: what the probes must see then."""
