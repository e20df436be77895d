"""The command `bench`: arguments and messages."""
