"""Configuration: typed sections (`base`, `pose`, `classification`) and the YAML loader (`loader`)."""
