"""Pictures of one artifact (`artifacts`), of evaluations (`comparison`), of speed (`scaling`), of samples (`toys`)."""
