"""Pictures: `artifacts` of one of them, `comparison` of evaluations, `scaling` of measured speed, `toys` of samples."""
