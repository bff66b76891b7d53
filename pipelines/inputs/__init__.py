"""What comes from outside: files by digest, package repositories."""
