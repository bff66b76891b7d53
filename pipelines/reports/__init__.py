"""Output for people and monitoring: tables, JSON, Markdown, HTML, metrics."""
