"""Images and video clips by their name on the command line, and the files that they are in."""
