"""Evaluation: roll-outs, scores of cells, pooled groups, averages over families."""
