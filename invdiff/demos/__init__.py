"""Demonstrations on real images: what the command line runs."""
