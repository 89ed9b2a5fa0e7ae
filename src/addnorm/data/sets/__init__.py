"""Data sets that have a name: shipped, made from shipped ones, or read from an installed package."""
