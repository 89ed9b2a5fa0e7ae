"""The rows of the benchmark: one question a file, and the folder is the registry."""
