"""`python -m autoprumux`."""

from autoprumux.cli import main

if __name__ == "__main__":
    main()
