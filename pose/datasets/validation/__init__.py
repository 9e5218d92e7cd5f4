"""Data set validation: check annotations, detector boxes and images before training."""
