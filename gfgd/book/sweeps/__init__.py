"""A sweep: a chapter at every point of a grid."""
