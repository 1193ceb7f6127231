"""Pictures of one artifact (`artifacts`), of evaluations (`comparison`, `agents`), of synthetic data (`trajectories`,
`maze`), of speed (`scaling`), of samples (`toys`)."""
