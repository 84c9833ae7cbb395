"""A whole table embedded with a trained model, in shards."""
