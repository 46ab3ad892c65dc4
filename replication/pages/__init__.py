"""What readers see: tables, figures, sentences, and the notebooks that hold them."""
