"""Questions with their contexts: windows of tokens, spans, answers and their scores."""
