"""Results as Parquet: one atomic shard a trial, and the care of a results folder."""
