"""Benchmarks: methods compared on the same prompts and seeds, by a judge they never consult."""
