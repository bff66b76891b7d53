export DIB_GPT_DISK_ROOT_FSTYPE=${DIB_GPT_DISK_ROOT_FSTYPE:-ext4}
if [ "$DIB_GPT_DISK_ROOT_FSTYPE" = xfs ]; then
    # XFS labels have at most 12 characters.
    export DIB_GPT_DISK_ROOT_LABEL=img-rootfs
else
    export DIB_GPT_DISK_ROOT_LABEL=cloudimg-rootfs
fi
