"""How one run is trained and read: bodies, heads, losses, the loop. The first room that imports torch."""
