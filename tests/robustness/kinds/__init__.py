"""Kinds of input: each module makes the cases of one or a few."""
