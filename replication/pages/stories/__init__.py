"""What each page leads with and says: one module per subject, `told` has them all by name."""
