"""The paper's measurements, each a function of a benchmark, methods and seeds: what a table or a figure runs."""
