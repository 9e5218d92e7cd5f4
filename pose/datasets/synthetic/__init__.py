"""Synthetic data set: images of drawn people, for the quickstart and the tests; needs no download."""
