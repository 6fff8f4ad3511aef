"""The slow ring: matrices, what they cover, and the evidence that they were run."""
