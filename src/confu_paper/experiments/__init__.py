"""The paper's experiments as typed functions: `confu reproduce` runs them."""
