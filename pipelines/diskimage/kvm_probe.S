# What a KVM must be able to do before it is trusted with an image: 16-bit code, x87, long mode, SSE. It is a boot sector;
# at its end it writes 0x31 to QEMU's isa-debug-exit device, so QEMU ends with 99. Assembled for qemu.py with:
#   as kvm_probe.S -o p.o && objcopy -O binary -j .text p.o p.bin && xxd -p p.bin
.code16
.org 0
start:
  cli
  xor %ax,%ax
  mov %ax,%ds
  mov %ax,%es
  mov %ax,%ss
  fninit                     # x87
  # page tables at 0x1000: PML4 -> 0x2000 PDPT -> 0x3000 PD, 2 MiB page
  mov $0x1000,%di
  mov $0x1800,%cx
  cld
  rep stosw                  # zero 0x1000..0x4000
  movw $0x2003,(0x1000)
  movw $0x3003,(0x2000)
  movw $0x0083,(0x3000)
  mov $0x620,%eax            # CR4: PAE, OSFXSR, OSXMMEXCPT
  mov %eax,%cr4
  mov $0x1000,%eax
  mov %eax,%cr3
  mov $0xc0000080,%ecx
  rdmsr
  or $0x100,%eax
  wrmsr
  lgdtl (0x7c00+gdtr-start)
  mov $0x80000011,%eax
  mov %eax,%cr0
  ljmp $8,$(0x7c00+long-start)
.code64
long:
  xorps %xmm0,%xmm0          # SSE
  mov $0x31,%al
  out %al,$0xf4
1: hlt
  jmp 1b
.balign 8
gdt: .quad 0
  .quad 0x00209a0000000000
gdtr: .word 15
  .long 0x7c00+gdt-start
