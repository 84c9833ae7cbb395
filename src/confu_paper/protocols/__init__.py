"""The paper's measurements, each a function of a benchmark and a request: what a table or a figure runs."""
