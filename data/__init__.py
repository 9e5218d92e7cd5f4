"""Commands to prepare and check data sets, such as ``dyconv-pose check-data``."""
