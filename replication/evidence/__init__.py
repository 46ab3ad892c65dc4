"""Reading results: metrics, store, statistics, figures, provenance; never imports torch."""
