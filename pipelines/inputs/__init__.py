"""Inputs of builds: downloaded and local files, known by their digests, and package repositories."""
