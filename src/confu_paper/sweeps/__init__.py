"""Grids and searches over the settings of a recipe: validation numbers choose, test numbers are shown."""
