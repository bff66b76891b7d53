// The CUDA driver library on a machine without a GPU: CUDA_ERROR_NO_DEVICE is 100.

int cuInit(unsigned int flags) { (void)flags; return 100; }
int cuDeviceGetCount(int *count) { *count = 0; return 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
