"""What the papers state: one file a claim, found by the registry."""
