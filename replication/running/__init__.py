"""Runs carried out: processes, devices, initial weights, tuning, scoring, progress."""
