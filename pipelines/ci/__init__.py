"""Pipeline files for GitHub Actions, GitLab CI, Zuul and systemd."""
