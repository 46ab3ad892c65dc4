"""What the papers state, what the book asks beyond, and how both are planned, registered and judged."""
