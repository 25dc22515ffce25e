"""A run: its manifest, its worker, its store and its driver."""
