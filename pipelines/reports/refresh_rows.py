"""What did a refresh do, line by line?

Steps as they ended become one row for each image and cloud, with what is new inside since the build before. What failed
outside of a step, and what was never reached, has a row as well.
"""
