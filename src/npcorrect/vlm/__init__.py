"""Everything that looks at pictures and finds words."""
