# cloud-init writes the network's configuration; DIB's own eth0 and ens3 stanzas would contradict it.
export DIB_APT_MINIMAL_CREATE_INTERFACES=0
export DIB_CLOUD_INIT_DATASOURCES=${DIB_CLOUD_INIT_DATASOURCES:-"ConfigDrive, OpenStack, NoCloud"}
export DIB_GUEST_MIRROR=${DIB_GUEST_MIRROR:-}
