"""A trained model and an index of what it embedded, asked together."""
