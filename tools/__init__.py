"""Command-line tools: each parses its arguments, loads a config and calls `pose`.

Run one as ``python tools/train.py ...`` or, if installed, as ``dyconv-pose train ...``.
"""
