"""What goes on in several builds at once?

On a terminal a live line for each build that goes on, below all that is said; elsewhere only what is said.
"""
