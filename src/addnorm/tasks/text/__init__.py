"""A text or a pair of texts with a label or a score: an encoder's inputs, targets, and what it must beat."""
