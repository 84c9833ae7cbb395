"""The report of a trained run: what is measured, and the page that shows it."""
