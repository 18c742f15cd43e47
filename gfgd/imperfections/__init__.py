"""What kinks and floating-point numbers do to gradient descent and gradient flow."""
