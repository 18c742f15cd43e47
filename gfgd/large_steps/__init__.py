"""Flows that model gradient descent at step sizes where gradient flow does not."""
