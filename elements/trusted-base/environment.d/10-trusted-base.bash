export DISTRO_NAME=${DIB_BASE_DISTRIBUTION:?the distribution of the base image}
export DIB_BASE_VERSION=${DIB_BASE_VERSION:-$DIB_RELEASE}
export DIB_INIT_SYSTEM=systemd
# Ubuntu's cloud images restart services after each installation of packages; in a chroot there are none.
export NEEDRESTART_SUSPEND=1
