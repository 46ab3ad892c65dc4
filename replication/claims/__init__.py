"""What the papers state and how it is judged: one file a claim."""
