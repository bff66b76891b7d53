"""What is an operator told about a driver?

Why nothing fits, and why what fits was chosen: one sentence each, in the operator's words.
"""
