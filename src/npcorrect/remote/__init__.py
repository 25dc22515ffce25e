"""Image models that run on a server, which is asked for each picture."""
