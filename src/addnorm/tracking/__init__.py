"""A run's curves in TensorBoard or trackio, beside its metrics.jsonl, which stays the record."""
