"""How does a raw disk become the artifact?

By qemu-img, as compressed qcow2, on several cores. Every hypervisor's QEMU reads zlib; zstd is several times quicker to
write, a little smaller, and read by QEMU 5.1 and newer.
"""
