"""What runs say: figures with intervals, as text, page and files."""
