"""Vectors of items by subset of their modalities, with metadata, stored and searched behind one small protocol."""
