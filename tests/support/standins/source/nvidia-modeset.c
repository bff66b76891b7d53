// Needs nvidia.ko, as NVIDIA's module of this name does.

#include <linux/init.h>
#include <linux/module.h>

int nvidia_get_rm_ops(void *operations);

static int __init nvidia_modeset_init(void)
{
	return nvidia_get_rm_ops(NULL);
}

static void __exit nvidia_modeset_exit(void)
{
}

module_init(nvidia_modeset_init);
module_exit(nvidia_modeset_exit);
MODULE_LICENSE("@LICENCE@");
MODULE_VERSION("@VERSION@");
