"""Crop cache: every training person cut out of its image once (`file` reads, `build` writes)."""
