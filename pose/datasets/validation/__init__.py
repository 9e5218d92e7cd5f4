"""Data set validation: checks of annotations, detector boxes and images before training."""
