"""Building a data set from public sources: polite, in steps that a killed run takes up again."""
