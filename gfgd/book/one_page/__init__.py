"""A run as one HTML file: a chapter's, or the report on a network."""
