"""How is the state of clouds shown?

As a table per cloud for people, or as JSON for programs, from the same surveys.
"""
