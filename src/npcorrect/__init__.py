"""Negative prompting for image correction: draw, look, find the negative, draw again."""
