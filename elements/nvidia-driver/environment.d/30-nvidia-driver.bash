export DIB_NVIDIA_SOURCE=${DIB_NVIDIA_SOURCE:-archive}
export DIB_NVIDIA_MODULES=${DIB_NVIDIA_MODULES:-proprietary}
export DIB_NVIDIA_BRANCH=${DIB_NVIDIA_BRANCH:-}
export DIB_NVIDIA_VERSION=${DIB_NVIDIA_VERSION:-}
export DIB_NVIDIA_DESKTOP=${DIB_NVIDIA_DESKTOP:-0}
# Who signs the modules that Ubuntu compiles; the kernel names this key in its log when it boots.
export DIB_NVIDIA_SIGNER="Canonical Ltd. Kernel Module Signing"
export DIB_KERNEL_MODULES_KEPT=${DIB_KERNEL_MODULES_KEPT:-}
export DIB_KERNEL_MODULES_NEW=${DIB_KERNEL_MODULES_NEW:-}
