"""One trial, from data to outcome."""
