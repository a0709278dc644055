"""The use cases as functions, for Python users and for the command line alike."""
