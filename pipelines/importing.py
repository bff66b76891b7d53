"""How does a ready image become a build?"""
