"""The benchmarks: their samples, checklists, judges and official files."""
