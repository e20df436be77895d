"""The interface for Python: what `normbench.PLACES` names, a file a topic. `docs/python.md` shows it.

It stands beside the command, over the same rooms. Nothing heavy is imported before a function needs it.
"""
