"""Many rows of a manifest through one model: checked, bucketed, resumable, on any engine."""
