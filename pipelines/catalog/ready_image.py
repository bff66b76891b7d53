"""What does images.yaml say of a ready image?

Where the image of `kind: import` is, and what its maker says is in it.
"""
