// NVML on a machine whose driver is not loaded: NVML_ERROR_DRIVER_NOT_LOADED is 9.

int nvmlInit_v2(void) { return 9; }
int nvmlShutdown(void) { return 9; }
const char *nvmlErrorString(int result) { (void)result; return "Driver Not Loaded"; }
