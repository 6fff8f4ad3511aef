"""The catalog: data in YAML, and the one loader that refuses what it does not know."""
