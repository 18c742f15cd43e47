"""Running chapters: parameters, papermill, and whether a chapter must run again."""
