/**
 * Parameters of `--fw-cfg-config`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "FwCfgConfig".
 */
import type { FwCfgConfig, FwCfgItem } from "@schemas/api/payload.ts";
import { parametersOf } from "./parameter.ts";

export const fwCfgParameters = parametersOf<FwCfgConfig>()({
  e820: { kind: "toggle", field: "e820", default: true, doc: "Offer the memory map" },
  kernel: { kind: "toggle", field: "kernel", default: true, doc: "Offer the kernel" },
  cmdline: { kind: "toggle", field: "cmdline", default: true, doc: "Offer the kernel command line" },
  initramfs: { kind: "toggle", field: "initramfs", default: true, doc: "Offer the initramfs" },
  acpi_table: { kind: "toggle", field: "acpi_tables", default: true, doc: "Offer the ACPI tables" },
  items: {
    kind: "special",
    field: "items",
    value: "[name=<name>,file=<path>:name=<name>,string=<text>]",
    doc: "Items of your own, separated by `:`",
  },
});

/** Parameters of one entry of `items`. */
export const fwCfgItemParameters = parametersOf<FwCfgItem>()({
  name: { kind: "string", field: "name", value: "<name>", doc: "Name the guest finds it under" },
  file: { kind: "string", field: "file", value: "<path>", doc: "File with the contents" },
  string: { kind: "string", field: "string", value: "<text>", doc: "The contents" },
});
