"""`python -m autoprumux`."""

from autoprumux.cli.main import main

if __name__ == "__main__":
    main()
