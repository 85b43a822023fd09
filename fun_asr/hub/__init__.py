"""Published models: which are known to work, and how one is fetched. Nothing else in the package opens a connection."""
