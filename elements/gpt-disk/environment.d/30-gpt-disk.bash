export DIB_GPT_DISK_SIZE=${DIB_GPT_DISK_SIZE:-10G}
export DIB_GPT_DISK_ROOT_FSTYPE=${DIB_GPT_DISK_ROOT_FSTYPE:-ext4}
if [ "$DIB_GPT_DISK_ROOT_FSTYPE" = xfs ]; then
    # XFS labels have at most 12 characters.
    export DIB_GPT_DISK_ROOT_LABEL=img-rootfs
else
    export DIB_GPT_DISK_ROOT_LABEL=cloudimg-rootfs
fi
serial=ttyS0,115200n8
[ "${ARCH:-amd64}" != arm64 ] || serial=ttyAMA0
export DIB_GPT_DISK_CMDLINE=${DIB_GPT_DISK_CMDLINE:-"console=tty0 console=$serial"}
