export DIB_GPT_DISK_SIZE=${DIB_GPT_DISK_SIZE:-10G}
serial=ttyS0,115200n8
[ "${ARCH:-amd64}" != arm64 ] || serial=ttyAMA0
export DIB_GPT_DISK_CMDLINE=${DIB_GPT_DISK_CMDLINE:-"console=tty0 console=$serial"}
