"""Texts, pairs and questions by their name on the command line, in three splits."""
