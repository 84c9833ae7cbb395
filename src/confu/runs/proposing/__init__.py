"""A first run file for a table that confu has never seen."""
