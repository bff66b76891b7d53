"""What a small guest should report after a boot, and a good report."""

from pipelines.verify.boot_report import Expectation

GIB = 2**30
EXPECTATION = Expectation(
    kernel="6.12.57+deb13-amd64",
    architecture="x86_64",
    driver="550.163.01",
    virtual_size=4 * GIB,
    machine="q35",
    disk_bus="scsi",
    modules_signed=False,
    gpu_check=False,
)
REPORT = {
    "kernel": "6.12.57+deb13-amd64",
    "cloud_init": {"datasource": "DataSourceNoCloud [seed=/dev/vda]", "errors": [], "warnings": []},
    "root": {"filesystem": int(5.8 * GIB), "partition": int(5.87 * GIB), "partition_end": 6 * GIB, "disk": 6 * GIB},
    "firmware": {"uefi": True, "secure_boot": False},
    "services": {"failed": []},
    "driver": {"returncode": 1, "output": "could not insert 'nvidia_current': No such device", "kernel_log": []},
    "gpu_check": {"returncode": 3, "output": '{\n "verdict": "no GPU",\n "exit_code": 3}\n', "errors": ""},
}
