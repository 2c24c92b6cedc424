"""Small worlds that are drawn from a seed: they need numpy and Pillow, never torch."""
