"""The ground for all other packages: programs, files, locks, errors, output."""
