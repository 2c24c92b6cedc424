"""Modalities: data to tokens and back, one file each."""
