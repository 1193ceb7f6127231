"""What a set of runs would build."""
