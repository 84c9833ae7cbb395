"""The paper's measurements, each a function that makes what a table or a figure shows.

All take the benchmark to measure on, the request (methods, seeds, runs) and the name of their table.
"""
