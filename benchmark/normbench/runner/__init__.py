"""Runs trials: Ray Tune places them, a child process runs each, the driver stores each outcome as it arrives."""
