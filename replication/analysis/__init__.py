"""How outputs are measured and compared: metrics, statistics, effects."""
