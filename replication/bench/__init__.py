"""How fast this package trains, measured beside what people use."""
