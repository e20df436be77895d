"""How far a stored result can be believed: what it says of itself, what a re-run of its first steps says, what a re-run
of all of it says.
"""
