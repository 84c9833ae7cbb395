"""What runs the paper: its data sets, experiments, tables and figures (arXiv 2511.21331)."""
