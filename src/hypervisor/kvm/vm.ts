/**
 * A KVM virtual machine: memory slots, interrupt controller, event descriptors, clock.
 *
 * L2. `KvmVm` is made on the main isolate; `VmFd` is the part Workers use, over the same descriptor (ioctls on it may come
 * from any thread). Source: KVM api.rst §4.2, 4.35, 4.39, 4.59, 4.70, 7.x.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { StructBuffer } from "@ffi/abi/struct.ts";
import { close } from "@ffi/libc/fd.ts";
import { check } from "@ffi/libc/syscall.ts";
import { IOEVENTFD_FLAG, KVM, KVM_IRQ_ROUTING, KvmCap, X2APIC_API } from "@ffi/kvm/codes.ts";
import { ioctlBuffer, ioctlValue } from "@ffi/kvm/ioctl.ts";
import * as S from "@ffi/kvm/structs.ts";
import { IOAPIC_PIN_COUNT } from "@vmm/arch/x86_64/layout.ts";

/** A message for one interrupt line of the split interrupt chip. */
export interface MsiRoute {
  readonly gsi: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
}

/** Guest notification address bound to an eventfd. */
export interface NotifyAddress {
  readonly gpa: number;
  readonly fd: number;
}

/** The VM descriptor with what any isolate may do with it. */
export class VmFd {
  readonly #msi = new StructBuffer(S.Msi);
  constructor(readonly fd: number) {}

  /** Delivers one message interrupt. Allocates nothing. @returns false if no APIC took it */
  signal(addressLow: number, addressHigh: number, data: number): boolean {
    const view = this.#msi.view;
    view.setUint32(S.Msi.offsets.address_lo, addressLow, true);
    view.setUint32(S.Msi.offsets.address_hi, addressHigh, true);
    view.setUint32(S.Msi.offsets.data, data, true);
    return ioctlBuffer(this.fd, KVM.SIGNAL_MSI, this.#msi.bytes) > 0;
  }

  /** Binds a notification address to an eventfd. @returns 0 or `-errno` */
  bindNotify(address: NotifyAddress): number {
    return this.#ioeventfd(address, 0);
  }

  /** Undoes `bindNotify`. @returns 0 or `-errno` */
  unbindNotify(address: NotifyAddress): number {
    return this.#ioeventfd(address, IOEVENTFD_FLAG.DEASSIGN);
  }

  #ioeventfd(address: NotifyAddress, flags: number): number {
    const argument = new StructBuffer(S.Ioeventfd)
      .set("addr", address.gpa).set("len", 0).set("fd", address.fd).set("flags", flags);
    return ioctlBuffer(this.fd, KVM.IOEVENTFD, argument.bytes);
  }

  /** Replaces the whole routing table. Lines 0–23 are the IOAPIC's pins. @returns 0 or `-errno` */
  setRoutes(routes: readonly MsiRoute[]): number {
    const header = new StructBuffer(S.IrqRouting, routes.length * S.IrqRoutingEntry.size).set(
      "nr",
      routes.length,
    );
    const at = S.IrqRoutingEntry.offsets;
    routes.forEach((route, i) => {
      const base = S.IrqRouting.size + i * S.IrqRoutingEntry.size;
      const word = (offset: number, value: number) => header.view.setUint32(base + offset, value, true);
      word(at.gsi, route.gsi);
      word(at.type, KVM_IRQ_ROUTING.MSI);
      word(at.address_lo, route.addressLow);
      word(at.address_hi, route.addressHigh);
      word(at.data, route.data);
    });
    return ioctlBuffer(this.fd, KVM.SET_GSI_ROUTING, header.bytes);
  }

  /** Moves a memory slot to another guest address; size and host memory stay. @returns 0 or `-errno` */
  moveMemoryRegion(slot: number, gpa: number, sizeBytes: number, hostAddress: bigint): number {
    return this.memoryRegion(slot, gpa, sizeBytes, hostAddress, 0);
  }

  /** Sets a memory slot. @returns 0 or `-errno` */
  protected memoryRegion(
    slot: number,
    gpa: number,
    sizeBytes: number,
    hostAddress: bigint,
    flags: number,
  ): number {
    const region = new StructBuffer(S.UserspaceMemoryRegion)
      .set("slot", slot).set("flags", flags).set("guest_phys_addr", gpa)
      .set("memory_size", sizeBytes).set("userspace_addr", hostAddress);
    return ioctlBuffer(this.fd, KVM.SET_USER_MEMORY_REGION, region.bytes);
  }

  /** Ties an eventfd to an interrupt line, or unties it. @returns 0 or `-errno` */
  irqfd(fd: number, gsi: number, assign: boolean): number {
    const argument = new StructBuffer(S.Irqfd).set("fd", fd).set("gsi", gsi).set("flags", assign ? 0 : 1);
    return ioctlBuffer(this.fd, KVM.IRQFD, argument.bytes);
  }
}

/** Where KVM keeps its own pages in guest physical space. */
export interface KvmReservedPages {
  readonly identityMapGpa: number;
  readonly tssGpa: number;
}

const CLOCK_REALTIME_FLAG = 4;

/** A VM as its owner, the main isolate, sees it. */
export class KvmVm extends VmFd {
  /**
   * Sets up a new VM: KVM's reserved pages, split interrupt chip, 32-bit APIC ids. @throws OsError
   * @param fd from `KvmSystem.createVm`
   */
  constructor(fd: number, reserved: KvmReservedPages) {
    super(fd);
    const identity = new Uint8Array(8);
    new DataView(identity.buffer).setBigUint64(0, BigInt(reserved.identityMapGpa), true);
    check(BigInt(ioctlBuffer(fd, KVM.SET_IDENTITY_MAP_ADDR, identity)), "KVM_SET_IDENTITY_MAP_ADDR");
    check(BigInt(ioctlValue(fd, KVM.SET_TSS_ADDR, BigInt(reserved.tssGpa))), "KVM_SET_TSS_ADDR");
    this.#enable(KvmCap.SPLIT_IRQCHIP, IOAPIC_PIN_COUNT, "KVM_CAP_SPLIT_IRQCHIP");
    this.#enable(
      KvmCap.X2APIC_API,
      X2APIC_API.USE_32BIT_IDS | X2APIC_API.DISABLE_BROADCAST_QUIRK,
      "KVM_CAP_X2APIC_API",
    );
  }

  #enable(cap: number, argument: number, name: string): void {
    const request = new StructBuffer(S.EnableCap).set("cap", cap);
    request.view.setBigUint64(S.EnableCap.offsets.args, BigInt(argument), true);
    check(BigInt(ioctlBuffer(this.fd, KVM.ENABLE_CAP, request.bytes)), name);
  }

  /** Registers (or with size 0 removes) a memory slot. @throws OsError */
  setMemoryRegion(slot: number, gpa: number, sizeBytes: number, hostAddress: bigint, flags = 0): void {
    const result = this.memoryRegion(slot, gpa, sizeBytes, hostAddress, flags);
    check(BigInt(result), "KVM_SET_USER_MEMORY_REGION", `gpa 0x${gpa.toString(16)}, ${sizeBytes} bytes`);
  }

  /** Makes vCPU `index`; returns its descriptor. @throws OsError */
  createVcpu(index: number): number {
    return check(
      BigInt(ioctlValue(this.fd, KVM.CREATE_VCPU, BigInt(index))),
      "KVM_CREATE_VCPU",
      `vcpu ${index}`,
    );
  }

  /** The VM's paravirtual clock in ns, as raw structure bytes. @throws OsError */
  getClock(): Uint8Array<ArrayBuffer> {
    const clock = new StructBuffer(S.ClockData);
    check(BigInt(ioctlBuffer(this.fd, KVM.GET_CLOCK, clock.bytes)), "KVM_GET_CLOCK");
    return clock.bytes;
  }

  /** Sets the clock from bytes of `getClock`, letting KVM catch up with real time where it can. @throws OsError */
  setClock(bytes: Uint8Array<ArrayBuffer>): void {
    const clock = new StructBuffer(S.ClockData);
    clock.bytes.set(bytes);
    // Only the real-time flag may be given back; a KVM that refuses it takes the bare value.
    const realtime = clock.get("flags") & CLOCK_REALTIME_FLAG;
    clock.set("flags", realtime);
    let result = ioctlBuffer(this.fd, KVM.SET_CLOCK, clock.bytes);
    if (result === -Errno.EINVAL && realtime !== 0) {
      clock.set("flags", 0);
      result = ioctlBuffer(this.fd, KVM.SET_CLOCK, clock.bytes);
    }
    check(BigInt(result), "KVM_SET_CLOCK");
  }

  close(): void {
    close(this.fd);
  }
}
