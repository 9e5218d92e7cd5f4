"""Training, evaluation and their logs."""
