//! From the PVH entry (32-bit, paging off, `ebx` = start info) to 64-bit Rust code in the upper
//! half.
//!
//! The page tables and the descriptor tables are data of the image, filled in by the assembler
//! and the linker: not one instruction is spent on them. They map
//! ```text
//! 0000_0000_0000_0000  first GiB, identity (only until the jump upwards)
//! FFFF_8000_0000_0000  direct map of RAM, read-write, never executable; more GiB added later
//! FFFF_FFFF_8020_0000  kernel code and constants, 2 MiB, read-execute
//! FFFF_FFFF_8040_0000  kernel data, 2 x 2 MiB, read-write
//! FFFF_FFFF_C000_0000  512 page slots for device registers (see `mmio`)
//! ```
//! Limits: requires NX (every x86_64 CPU in use has it).

use core::arch::global_asm;

global_asm!(
    // PVH entry address for loaders, ELF note 18 of "Xen".
    ".section .note.Xen, \"a\", @note",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad boot_entry_phys",
    // Page tables. 0x1E3: present, write, accessed, dirty, large, global; 0x1A1: without write and dirty.
    ".section .data.tables, \"aw\", @progbits",
    ".balign 4096",
    ".global boot_pml4",
    "boot_pml4:",
    ".quad boot_pdpt_direct_phys + 0x23",
    ".fill 255, 8, 0",
    ".quad boot_pdpt_direct_phys + 0x8000000000000023",
    ".fill 254, 8, 0",
    ".quad boot_pdpt_kernel_phys + 0x23",
    ".global boot_pdpt_direct",
    "boot_pdpt_direct:",
    ".quad boot_pd_direct_phys + 0x23",
    ".fill 511, 8, 0",
    ".global boot_pd_direct",
    "boot_pd_direct:",
    ".set address, 0",
    ".rept 512",
    ".quad address + 0x1E3",
    ".set address, address + 0x200000",
    ".endr",
    ".global boot_pdpt_kernel",
    "boot_pdpt_kernel:",
    ".fill 510, 8, 0",
    ".quad boot_pd_image_phys + 0x23",
    ".quad boot_pd_mmio_phys + 0x23",
    ".global boot_pd_image",
    "boot_pd_image:",
    ".quad 0",
    ".quad 0x2001A1",
    ".quad 0x4001E3 + 0x8000000000000000",
    ".quad 0x6001E3 + 0x8000000000000000",
    ".fill 508, 8, 0",
    ".global boot_pd_mmio",
    "boot_pd_mmio:",
    ".quad boot_pt_mmio_phys + 0x23",
    ".fill 511, 8, 0",
    ".global boot_pt_mmio",
    "boot_pt_mmio:",
    ".fill 512, 8, 0",
    // Null, kernel code, kernel data, (32-bit user code), user data, user code, task state.
    ".global gdt",
    "gdt:",
    ".quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF",
    ".quad 0x00CFF3000000FFFF, 0x00AFFB000000FFFF, 0, 0",
    ".global boot_gdt_pointer",
    "boot_gdt_pointer:",
    ".word 63",
    ".long gdt_phys",
    "gdt_pointer:",
    ".word 63",
    ".quad gdt",
    ".balign 8",
    ".section .text.boot, \"ax\", @progbits",
    ".code32",
    ".global boot_entry",
    "boot_entry:",
    "cld",
    // CR4: PAE, OSFXSR, OSXMMEXCPT. PGE comes when the identity map is gone.
    "mov eax, cr4",
    "or eax, 0x620",
    "mov cr4, eax",
    "mov eax, offset boot_pml4_phys",
    "mov cr3, eax",
    // EFER: SCE, LME, NXE.
    "mov ecx, 0xC0000080",
    "rdmsr",
    "or eax, 0x901",
    "wrmsr",
    // CR0: PG, WP, NE, MP, PE on; EM, TS off.
    "mov eax, cr0",
    "and eax, 0xFFFFFFF3",
    "or eax, 0x80010033",
    "mov cr0, eax",
    "lgdt [boot_gdt_pointer_phys]",
    ".byte 0xEA",
    ".long boot_long_phys",
    ".word 8",
    ".code64",
    ".global boot_long",
    "boot_long:",
    "movabs rax, offset boot_high",
    "jmp rax",
    "boot_high:",
    "movabs rax, offset gdt_pointer",
    "lgdt [rax]",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov ss, eax",
    "movabs rsp, offset {stack} + {stack_size}",
    "mov edi, ebx",
    "call {main}",
    "ud2",
    stack = sym crate::arch::KERNEL_STACK,
    stack_size = const crate::arch::KERNEL_STACK_SIZE,
    main = sym crate::kernel_main,
);
