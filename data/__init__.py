"""Commands that prepare and check data sets; `dyconv-pose` lists them with the tools."""
