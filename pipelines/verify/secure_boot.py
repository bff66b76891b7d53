"""What does Secure Boot make of the driver?

The guest's attempts to load its modules, judged: what is signed by a key that the guest trusts must load, and nothing
else may.
"""
