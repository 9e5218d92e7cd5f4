"""Commands that prepare and check data sets, also available as sub-commands of ``dyconv-pose``."""
