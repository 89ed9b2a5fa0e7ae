"""Predicted frames: read, scored, and written to look at."""
