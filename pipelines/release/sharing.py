"""With whom is a shared image shared?"""
