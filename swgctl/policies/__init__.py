"""Policies: guided denoisers, the ranking of their candidates by a critic, and export as two files."""
