"""What has to be done, decided without side effects."""
