"""What every stage agrees on: trials, their outcomes, plug-ins, names and numbers as plain values."""
