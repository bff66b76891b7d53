"""Are the driver's modules the distribution's own?

For `driver.source: precompiled`, where DKMS has no part: all modules are what the distribution compiled for the kernel
that boots, and carry its signature, which a kernel under Secure Boot accepts.
"""
