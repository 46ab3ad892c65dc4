"""What the book asks beyond the papers' claims: one file a question, found by the registry."""
