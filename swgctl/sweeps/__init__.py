"""Sets of runs: what they would build, and the recipes that they take."""
