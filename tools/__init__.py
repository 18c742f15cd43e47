"""What serves the repository, and no user of the library."""
