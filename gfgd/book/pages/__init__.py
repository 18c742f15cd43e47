"""From executed chapters to the pages of the book."""
