"""What has been measured: the local store, the published tables, where they come from."""
