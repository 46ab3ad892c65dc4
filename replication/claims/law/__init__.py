"""The law of the shift: its registered predictions, their runs, and the rules that judge them."""
