"""How is an image's data sent?

Once, or not at all. Works on the transport of glanceclient's client.
"""
