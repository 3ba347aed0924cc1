/**
 * Values that the tables tell a guest and the registers of the platform take.
 *
 * L2, any isolate. Source: ACPI 6.5 §7.4.2 (_Sx), spec/machine-model.md §4.
 */

/** SLP_TYP of the soft-off state. */
export const S5_SLEEP_TYPE = 5;

/** Bits of the generic event device's notification byte. */
export const GedNotification = { cpu: 1, memory: 2, pci: 4, powerButton: 8 } as const;
