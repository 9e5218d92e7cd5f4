"""Typed configuration: options (`base`, `pose`, `classification`) and the YAML loader (`loader`)."""
