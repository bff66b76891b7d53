# DIB's elements ask for these; its own distribution elements would set them.
export YUM=dnf
export DIB_INIT_SYSTEM=systemd
export DIB_DISTRIBUTION_MIRROR=${DIB_DISTRIBUTION_MIRROR:-}
export DIB_GUEST_MIRROR=${DIB_GUEST_MIRROR:-}
export DIB_EPEL_RELEASE=${DIB_EPEL_RELEASE:-https://dl.fedoraproject.org/pub/epel/epel-release-latest-$DIB_RELEASE.noarch.rpm}
