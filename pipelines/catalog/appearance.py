"""How does an image appear in a cloud?"""
