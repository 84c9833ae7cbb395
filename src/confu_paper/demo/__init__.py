"""The demo: a small model on real images, sounds and words, its page, and an index to search."""
