"""What do the tables beside our modules say?

Long data, ours and believed as it is.
"""
