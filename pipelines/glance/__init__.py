"""The cloud's image service: its API, its image properties, its errors."""
