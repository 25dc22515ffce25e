"""Everything that touches diffusers."""
