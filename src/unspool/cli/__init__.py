"""The command line: `main.py` has the table of commands, each of which is one module that parses, calls and prints.

Nothing is imported here, so that `unspool --help` stays fast.
"""
