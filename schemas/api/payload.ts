/**
 * What the guest boots: firmware, or kernel with command line and initramfs, and fw_cfg items.
 *
 * L0. Source: spec/schemas.md "PayloadConfig".
 */
import * as z from "zod";
import { bool, path, struct, text } from "@schemas/primitives.ts";

/** One fw_cfg item; exactly one of `file` and `string`. */
export const FwCfgItemSchema = struct("FwCfgItem", {
  name: text().describe("Name the guest finds it under").default(""),
  file: path().optional(),
  string: text().optional(),
});
export type FwCfgItem = z.infer<typeof FwCfgItemSchema>;

export const FwCfgItemListSchema = struct("FwCfgItemList", {
  item_list: z.array(FwCfgItemSchema).default(() => []),
});
export type FwCfgItemList = z.infer<typeof FwCfgItemListSchema>;

export const FwCfgConfigSchema = struct("FwCfgConfig", {
  e820: bool().default(true),
  kernel: bool().default(true),
  cmdline: bool().default(true),
  initramfs: bool().default(true),
  acpi_tables: bool().default(true),
  items: FwCfgItemListSchema.optional(),
});
/** What the guest finds in fw_cfg. */
export type FwCfgConfig = z.infer<typeof FwCfgConfigSchema>;

export const PayloadConfigSchema = struct("PayloadConfig", {
  firmware: path().optional(),
  kernel: path().optional(),
  cmdline: text().optional(),
  initramfs: path().optional(),
  fw_cfg_config: FwCfgConfigSchema.optional(),
}, { requiredInSequence: ["fw_cfg_config"] });
/** What the VM starts: a kernel with its command line and initramfs, or firmware. */
export type PayloadConfig = z.infer<typeof PayloadConfigSchema>;
