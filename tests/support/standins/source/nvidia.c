// A kernel module in the place of NVIDIA's: it knows NVIDIA's PCI vendor ID, and without a device it ends as theirs does.

#include <linux/init.h>
#include <linux/module.h>
#include <linux/pci.h>

static const struct pci_device_id devices[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_VGA << 8, .class_mask = ~0 },
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_3D << 8, .class_mask = ~0 },
	{ }
};
MODULE_DEVICE_TABLE(pci, devices);

// What the other modules need of this one, under the name of NVIDIA's own.
int nvidia_get_rm_ops(void *operations);
int nvidia_get_rm_ops(void *operations)
{
	return -ENODEV;
}
EXPORT_SYMBOL(nvidia_get_rm_ops);

static int __init nvidia_init(void)
{
	if (!pci_dev_present(devices)) {
		printk(KERN_ERR "NVRM: No NVIDIA GPU found.\n");
		return -ENODEV;
	}
	printk(KERN_ERR "NVRM: a stand-in drives no GPU\n");
	return -ENODEV;
}

static void __exit nvidia_exit(void)
{
}

module_init(nvidia_init);
module_exit(nvidia_exit);
MODULE_LICENSE("@LICENCE@");
MODULE_VERSION("@VERSION@");
MODULE_ALIAS_CHARDEV_MAJOR(195);
