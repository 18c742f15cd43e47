"""The paper's own runs: what was published, and the archive of runs at full length."""
