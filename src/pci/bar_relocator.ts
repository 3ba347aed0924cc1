/**
 * Moves BARs: the range in the segment's aperture first, then what the kernel keeps at the address.
 *
 * L3, one per vCPU Worker and segment.
 */
import { bumpGeneration, type BusState } from "@vmm/bus/bus_block.ts";
import type { Aperture } from "./aperture.ts";
import type { BarMoves } from "./function.ts";

/** What the machine keeps at a BAR's address. */
export interface BarPort {
  /** Moves ioeventfds and memory slots. False: it could not, and put everything back. */
  relocated(bar: number, oldBase: number, newBase: number): boolean;
}

export class BarRelocator implements BarMoves {
  constructor(
    private readonly aperture: Aperture,
    private readonly bus: BusState,
    private readonly port: BarPort,
  ) {}

  relocate(bar: number, oldBase: number, newBase: number, sizeBytes: number): boolean {
    if (!this.aperture.move(oldBase, newBase, sizeBytes)) return false;
    if (this.port.relocated(bar, oldBase, newBase)) return true;
    this.aperture.move(newBase, oldBase, sizeBytes);
    return false;
  }

  moved(): void {
    bumpGeneration(this.bus);
  }
}
