"""`python -m confu`, for torchrun."""

from confu.cli import main

if __name__ == "__main__":
    main()
