"""What is diskimage-builder doing?

Reads its output line by line. dib-run-parts says which script of which phase it runs and when that is done; the
element that a script belongs to is known from the recipe. Pure: the clock is an argument.
"""
