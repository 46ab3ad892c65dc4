"""What is trained on: settings, splits, and the images behind them. No torch."""
