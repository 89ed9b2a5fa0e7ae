"""Text, records, images, video and batches, in numpy: nothing here needs torch."""
