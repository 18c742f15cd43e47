"""Measurements of cost: `make bench`."""
