"""Synthetic people: the embedded data set that is drawn, not downloaded."""
