"""Where an image model looks: its own attention from the picture to the text, and what it says."""
