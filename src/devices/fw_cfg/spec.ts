/**
 * Numbers of the firmware configuration interface.
 *
 * L4, pure. Source: QEMU docs/specs/fw_cfg.rst.
 */

/** Keys with a meaning of their own. */
export const FwCfgKey = {
  SIGNATURE: 0x00,
  ID: 0x01,
  KERNEL_SIZE: 0x08,
  INITRD_SIZE: 0x0b,
  KERNEL_DATA: 0x11,
  INITRD_DATA: 0x12,
  CMDLINE_SIZE: 0x14,
  CMDLINE_DATA: 0x15,
  SETUP_SIZE: 0x17,
  SETUP_DATA: 0x18,
  FILE_DIR: 0x19,
  FILE_FIRST: 0x20,
} as const;

/** What the signature item and the DMA register read as. */
export const FW_CFG_SIGNATURE = "QEMU CFG";
/** Both interfaces: ports and DMA. */
export const FW_CFG_ID = 3;

/** Offsets of the registers from the first port. */
export const Port = { selector: 0, data: 1, dmaHigh: 4, dmaLow: 8, end: 12 } as const;

/** Control word of a DMA request; the key to select is in the upper half. All fields are big-endian. */
export const DMA_ERROR = 1 << 0;
export const DMA_READ = 1 << 1;
export const DMA_SKIP = 1 << 2;
export const DMA_SELECT = 1 << 3;
export const DMA_WRITE = 1 << 4;

/** struct FWCfgDmaAccess. */
export const DmaAccess = { control: 0, length: 4, address: 8, size: 16 } as const;

/** struct fw_cfg_file, big-endian, and the number of them in front. */
export const FileEntry = { size: 0, select: 4, name: 8, nameBytes: 56, bytes: 64 } as const;
