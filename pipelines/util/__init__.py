"""What all other packages build on: programs, files, locks, errors, output."""
