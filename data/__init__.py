"""Commands that prepare and check data sets; `dyconv-pose` has them as sub-commands."""
