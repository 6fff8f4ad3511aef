"""The whole way as one function over values and ports."""
