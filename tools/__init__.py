"""The command-line tools: each parses its arguments, loads a config and makes one call into `pose`.

Run one as ``python tools/train.py ...``, or, installed, as ``dyconv-pose train ...``.
"""
