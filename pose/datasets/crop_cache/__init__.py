"""Crop cache: pre-cropped training persons in one file (`build` writes it, `file` reads it)."""
