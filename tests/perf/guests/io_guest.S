/*
 * Entry of the I/O benchmark guest: PVH, 32-bit protected mode, to long mode with everything mapped for ring 3.
 *
 * The page tables are made by the assembler: on hosts that emulate ring 0, each instruction costs more than half a
 * microsecond. The first GiB is mapped as it is; the second one is for device pages, entered by `setup`.
 */
#define PAGE_USER 0x07
#define PAGE_LARGE 0x87

    .section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18              /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .section .text.start, "ax"
    .code32
    .globl start
start:
    cli
    movl $stack_top, %esp
    movl %cr4, %eax
    orl $0x20, %eax             /* PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER */
    rdmsr
    orl $0x100, %eax            /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $long_mode

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    call setup
    testl %eax, %eax
    jnz stopped
    pushq $0x1b                 /* ring 3: stack, flags with interrupts off, code */
    pushq $user_stack_top
    pushq $2
    pushq $0x23
    leaq drive(%rip), %rax
    pushq %rax
    iretq
stopped:
    hlt
    jmp stopped

    .section .data
    .align 4096
pml4:
    .quad pdpt + PAGE_USER
    .fill 511, 8, 0
pdpt:
    .quad low_directory + PAGE_USER
    .quad device_directory + PAGE_USER
    .fill 510, 8, 0
low_directory:
    .set page, 0
    .rept 512
    .quad page + PAGE_LARGE
    .set page, page + 0x200000
    .endr
    .globl device_directory
device_directory:
    .fill 512, 8, 0

    .align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 08: ring 0 code */
    .quad 0x00cf93000000ffff    /* 10: ring 0 data */
    .quad 0x00cff3000000ffff    /* 18: ring 3 data */
    .quad 0x00affb000000ffff    /* 20: ring 3 code */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .section .bss
    .align 4096
    .skip 16384
stack_top:
    .skip 65536
user_stack_top:

    .section .note.GNU-stack, "", @progbits
