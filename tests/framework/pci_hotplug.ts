/**
 * The PCI hot-plug registers as a guest's ACPI code uses them: which slots came, which shall go, ejecting one.
 *
 * Test framework. Start the VM with `HOTPLUG_CPUS`, which fixes where the registers lie.
 *
 * @module
 */

import { eventually } from "./deadline.ts";
import type { Puppet } from "./puppet.ts";

const PHYS_BITS = 40;
/** The platform's registers end this far below the end of the address space; these are in the last page of them. */
const PLATFORM_END_BELOW_TOP = 0x1_0000;
const PAGE_BYTES = 0x1000;
const REGISTERS = 2 ** PHYS_BITS - PLATFORM_END_BELOW_TOP - PAGE_BYTES;

const ADDED = 0;
const REMOVING = 4;
const EJECT = 8;
const SEGMENT = 12;

/** Value of `--cpus` that `PciHotplug` needs. */
export const HOTPLUG_CPUS = `boot=1,max_phys_bits=${PHYS_BITS}`;

/** See the module. */
export class PciHotplug {
  constructor(private readonly puppet: Puppet) {}

  /** Slots that were added since the last call, as bits. */
  async added(segment = 0): Promise<number> {
    return await this.#read(segment, ADDED);
  }

  /** Slots whose removal was asked for since the last call, as bits. */
  async removing(segment = 0): Promise<number> {
    return await this.#read(segment, REMOVING);
  }

  /** Waits for a slot to be added; returns it. */
  async takeAdded(segment = 0): Promise<number> {
    return Math.log2(
      await eventually("an added PCI slot", async () => await this.added(segment) || undefined),
    );
  }

  /** Waits until the removal of a slot is asked for, and ejects it. Returns the slot. */
  async ejectRemoved(segment = 0): Promise<number> {
    const bits = await eventually("a slot to eject", async () => await this.removing(segment) || undefined);
    const at = await this.puppet.map(REGISTERS);
    await this.puppet.run(["writel", at + SEGMENT, segment], ["writel", at + EJECT, bits]);
    return Math.log2(bits);
  }

  async #read(segment: number, register: number): Promise<number> {
    const at = await this.puppet.map(REGISTERS);
    return (await this.puppet.run(["writel", at + SEGMENT, segment], ["readl", at + register]))[1];
  }
}
