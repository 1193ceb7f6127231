"""From roll-outs to numbers: episodes, cells, pooled groups, averages over families."""
