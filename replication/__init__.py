"""Replication of 'The Unreasonable Effectiveness of the Final Batch Normalization Layer' (arXiv:2109.09016)."""

__version__ = "0.1.0"
