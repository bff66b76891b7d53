"""Test doubles of what cannot be downloaded here: Ubuntu's and NVIDIA's own packages, images and installers.

All are made when a test needs them, with the real tools; nothing of them is in git. What they hold is small, and real:
kernel modules that DKMS compiles for the guest's kernel and that find no GPU, shared libraries, signed archives.
"""
