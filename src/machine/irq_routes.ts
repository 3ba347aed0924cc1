/**
 * The VM's interrupt routes: level-triggered IOAPIC pins, and messages that eventfds of other processes raise.
 *
 * L5, any isolate. KVM takes the whole table at once, so all of it is in one shared block: whoever changes something sends
 * everything, under the block's lock. Lines for messages follow the IOAPIC's pins. Source: KVM api.rst §4.52.
 */
import { IOAPIC_PIN_COUNT } from "@vmm/arch/x86_64/layout.ts";
import { type IoapicState, levelRoute } from "@vmm/devices/legacy/ioapic.ts";

import type { MsiRoute, VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Lines for messages. */
export const MESSAGE_LINES = 256;

/** By line: taken or not, and its message; `active` 0 has no route. */
export const IrqRoutesBlock = defineBlock("irq-routes", {
  taken: { u8: MESSAGE_LINES },
  active: { u8: MESSAGE_LINES },
  addressLow: { u32: MESSAGE_LINES },
  addressHigh: { u32: MESSAGE_LINES },
  data: { u32: MESSAGE_LINES },
});

/** Nobody has a line, or the host is out of memory. */
export const NO_LINE = -1;

/** See the module. */
export class IrqRoutes {
  constructor(
    private readonly state: BlockOf<typeof IrqRoutesBlock>,
    private readonly ioapic: IoapicState,
    private readonly vm: Pick<VmFd, "setRoutes">,
  ) {}

  /** The number KVM knows a line by. */
  static gsi(line: number): number {
    return IOAPIC_PIN_COUNT + line;
  }

  /** A line without a route, or `NO_LINE`. */
  take(): number {
    this.state.lock();
    const line = this.state.taken.indexOf(0);
    if (line >= 0) this.state.taken[line] = 1;
    this.state.unlock();
    return line;
  }

  /** Gives a line a message. @returns false if KVM refuses; the line has no route then */
  set(line: number, addressLow: number, addressHigh: number, data: number): boolean {
    const { state } = this;
    state.lock();
    state.active[line] = 1;
    state.addressLow[line] = addressLow;
    state.addressHigh[line] = addressHigh;
    state.data[line] = data;
    const accepted = this.vm.setRoutes(this.#all()) === 0;
    if (!accepted) state.active[line] = 0;
    state.unlock();
    return accepted;
  }

  /** Gives a line back. */
  free(line: number): void {
    const { state } = this;
    state.lock();
    const hadRoute = state.active[line] !== 0;
    state.active[line] = state.taken[line] = 0;
    if (hadRoute) this.vm.setRoutes(this.#all());
    state.unlock();
  }

  /** The route of a level-triggered pin has changed. */
  update(): void {
    this.state.lock();
    this.vm.setRoutes(this.#all());
    this.state.unlock();
  }

  #all(): MsiRoute[] {
    const { state } = this;
    const routes: MsiRoute[] = [];
    // KVM reports the end of level-triggered interrupts only if it knows their routes.
    for (let pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
      const route = levelRoute(this.ioapic, pin);
      if (route !== undefined) routes.push({ gsi: pin, ...route });
    }
    for (let line = 0; line < MESSAGE_LINES; line++) {
      if (state.active[line] === 0) continue;
      routes.push({
        gsi: IrqRoutes.gsi(line),
        addressLow: state.addressLow[line],
        addressHigh: state.addressHigh[line],
        data: state.data[line],
      });
    }
    return routes;
  }
}
