"""Text to tokens and tokens to batches, in memory or in a store on the disk."""
