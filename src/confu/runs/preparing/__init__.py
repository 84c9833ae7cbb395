"""From a table to the data sets and the encoders of a run, with everything broken found first."""
