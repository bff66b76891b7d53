"""What is asked of the driver, and what is chosen?"""
