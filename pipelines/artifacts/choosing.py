"""Which build is meant?"""
