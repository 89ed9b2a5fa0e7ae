"""Weights and shapes in from other programs, and out to them."""
