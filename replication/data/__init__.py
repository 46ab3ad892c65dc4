"""Settings, splits and the images behind them. No torch in here."""
