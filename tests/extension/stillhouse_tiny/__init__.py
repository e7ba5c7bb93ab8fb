"""A package as a user would install it: a model family and a loss of one's own (docs/extending.md)."""
