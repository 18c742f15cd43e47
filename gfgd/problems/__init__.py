"""What the book studies besides networks: landscapes, initial value problems, datasets."""
