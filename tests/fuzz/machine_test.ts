/**
 * Ports, platform controllers, PCI configuration and BARs of a whole machine under accesses of every width anywhere.
 *
 * The register code is what vCPU Workers run, over a machine with every kind of PCI function; KVM is faked and refuses now
 * and then. Nothing may throw, hang, or answer with what is no operand. `FUZZ_MS`, `FUZZ_SEED` as in the other files.
 */
import assert from "node:assert/strict";
import { close, eventfd } from "@ffi/libc/fd.ts";
import { planControllers, planMemory, planSegments } from "@vmm/arch/x86_64/layout.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { FwCfgBlock } from "@vmm/devices/fw_cfg/fw_cfg.ts";
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { PciTopology } from "@vmm/machine/pci_topology.ts";
import { createPlatform } from "@vmm/machine/platform.ts";
import { VcpuMachine } from "@vmm/machine/vcpu_machine.ts";
import { barBase, PciFunctionBlock } from "@vmm/pci/function_block.ts";
import { PCI_BARS } from "@vmm/pci/layout.ts";
import { attachVirtioPci, ConfigWrite, Lifecycle } from "@vmm/virtio/pci/block.ts";
import { Random } from "@tests/differential/bodies.ts";
import { HostileDriver } from "./virtio/hostile_driver.ts";
import { SUBJECTS } from "./virtio/subjects.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 200);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);
const MIN_ROUNDS = 2;
const ACCESSES = 5_000;
const MIB = 1 << 20;
const PORTS = 0x1_0000;
const WIDTHS = [1, 2, 4, 8, 3, 5, 6, 7];
/** The kvm_run page: operands lie somewhere in it. */
const PAGE = 4096;
const OPERANDS = 2048;
const CANARY = 0x5a;
/** Offsets of a BAR worth hitting: common configuration, ISR, device configuration, doorbells, MSI-X table and bits. */
const BAR_AREAS = [0, 0x10, 0x20, 0x2000, 0x4000, 0x6000, 0x8000, 0x4_8000, 0x7_fff8];

function makeMachine(random: Random, ioWakeFd: number) {
  const memory = planMemory({ zones: [{ id: "mem0", sizeBytes: 512 * MIB }], physBits: 40 });
  const time = { monotonicNs: () => 0, realtimeUs: () => 0 };
  const platform = createPlatform({
    controllers: planControllers(memory),
    segments: planSegments(memory, [{ mmio32: 1, mmio64: 1 }, { mmio32: 1, mmio64: 1 }]),
    lowRamBytes: 512 * MIB,
    highRamBytes: 0,
    bootVcpus: 2,
    maxVcpus: 4,
    hasSerial: true,
    hasTpm: true,
    debugConsolePort: 0xe9,
    time,
  });
  const moody = () => random.chance(0.1) ? -22 : 0;
  const vm = {
    signal: () => random.chance(0.9),
    bindNotify: moody,
    unbindNotify: moody,
    setRoutes: moody,
    moveMemoryRegion: moody,
    irqfd: moody,
  } as unknown as KvmVm;
  // Placing devices takes descriptors that are given back at the end.
  const steady = { bindNotify: () => 0 } as unknown as KvmVm;
  const topology = new PciTopology(platform, steady);
  topology.addPvPanic("_pvpanic0");
  const driver = new HostileDriver(random);
  Object.entries(SUBJECTS).forEach(([name, subject], index) => {
    const { model } = subject({ random, driver, busy: () => {} });
    const segment = index % 2;
    topology.place(
      {
        id: name,
        kind: name,
        placement: { segment },
        model,
        backend: undefined,
        config: {},
        warnings: [],
        release: () => {},
      },
      topology.takeSlot(segment, undefined),
      true,
    );
  });
  const base = platform.apertures[0].allocate("memory64", MIB, MIB)!;
  const shared = { sizeBytes: MIB, hostAddress: 0n, kvmSlot: 9, base };
  topology.addIvshmem("_ivshmem", 0, topology.takeSlot(0, undefined), shared);

  const fwCfg = FwCfgBlock.create();
  fwCfg.dma = 1; // a transfer is under way for ever: nobody here would carry one out, and a vCPU waits for that
  const items = {
    sizeOf: (key: number) => key < 32 ? key * 1_000 : 0,
    read: (_key: number, _offset: number, target: Uint8Array) => {
      target.fill(7);
      return random.chance(0.9);
    },
  };
  const events: GuestEvent[] = [];
  const nowhere = { put: () => {} };
  const machine = new VcpuMachine({
    platform: platform.description,
    functions: topology.functions,
    vm,
    ioWakeFd,
    outputs: { serial: nowhere, debugConsole: nowhere, firmwareDebug: nowhere },
    fwCfg: { state: fwCfg, items },
    events: { post: (event) => void events.push(event) },
    halt: () => {},
  });
  const virtio = topology.functions.filter(({ kind }) => kind === "virtio").map((fn) =>
    attachVirtioPci(fn.block)
  );
  const kickFds = topology.functions.flatMap((fn) => fn.kickFds ?? []);
  return { platform, topology, machine, events, virtio, release: () => kickFds.forEach(close) };
}

type Machine = ReturnType<typeof makeMachine>;

/** Plays the I/O Worker: devices start, reset and take configuration at once, so that no vCPU waits. */
function serveDevices({ virtio }: Machine): void {
  for (const state of virtio) {
    if (state.lifecycle === Lifecycle.activate || state.lifecycle === Lifecycle.reset) {
      state.lifecycle = Lifecycle.idle;
    }
    if (state.configWrite !== ConfigWrite.none) state.configWrite = ConfigWrite.none;
  }
}

/** An address where something is: a BAR where it lies now, configuration space, a controller; or anything. */
function address(random: Random, { platform, topology }: Machine): number {
  const { controllers, ecam } = platform.description;
  switch (random.below(8)) {
    case 0:
      return 2 ** 32 * random.below(256) + random.below(2 ** 32);
    case 1: {
      const place = random.pick([
        0xfec0_0000,
        0xfed4_0000,
        controllers.genericEvent.gpa,
        controllers.cpuHotplug.gpa,
        controllers.pciHotplug.gpa,
      ]);
      return place + random.below(0x40) - 2;
    }
    case 2:
      return random.pick(ecam).gpa + random.below(MIB);
    case 3:
    case 4:
      return random.pick(ecam).gpa + (random.below(16) << 15) + random.below(0x110);
    default: {
      const bar = barBase(
        PciFunctionBlock.attach(random.pick(topology.functions).block),
        random.below(PCI_BARS),
      );
      return bar + random.pick(BAR_AREAS) + random.below(64) - 4;
    }
  }
}

/** A value: small, all ones, an address in a PCI window, or anything. */
function value(random: Random): bigint {
  const small = BigInt(random.below(256));
  const any = BigInt(random.below(2 ** 32)) << 32n | BigInt(random.below(2 ** 32));
  return random.pick([
    0n,
    1n,
    2n,
    7n,
    small,
    small,
    0xffff_ffffn,
    any,
    any,
    0xe800_0000n + (any & 0x7f_ffffn),
  ]);
}

Deno.test(`whatever a guest reads and writes anywhere, registers answer (FUZZ_SEED=${SEED})`, () => {
  const page = new DataView(new SharedArrayBuffer(PAGE));
  const end = performance.now() + FUZZ_MS;
  const ioWakeFd = eventfd();
  for (let seed = SEED; seed < SEED + MIN_ROUNDS || performance.now() < end; seed++) {
    const random = new Random(seed);
    const made = makeMachine(random, ioWakeFd);
    const { machine, events } = made;
    let step = "";
    try {
      for (let i = 0; i < ACCESSES; i++) {
        const isWrite = random.chance(0.5);
        const width = random.pick(WIDTHS);
        page.setBigUint64(OPERANDS, value(random), true);
        page.setUint8(OPERANDS - 1, CANARY);
        let operandBytes = width;
        if (random.chance(0.3)) {
          const port = random.chance(0.3) ? random.below(PORTS) : random.pick([
            ...[0x20, 0x40, 0x60, 0x70, 0x80, 0xe9, 0x3f8, 0x402, 0x510, 0x600, 0x608, 0xcf8, 0xcfc],
          ]) + random.below(12);
          const size = random.pick([1, 2, 4]);
          const count = random.chance(0.1) ? 1 + random.below((PAGE - OPERANDS) / size - 1) : 1;
          operandBytes = size * count;
          page.setUint8(OPERANDS + operandBytes, CANARY);
          step = `port 0x${port.toString(16)}, ${count} times ${size} bytes`;
          machine.pio.access(page, OPERANDS, port, size, count, isWrite);
        } else {
          const gpa = address(random, made);
          page.setUint8(OPERANDS + operandBytes, CANARY);
          step = `0x${gpa.toString(16)}, ${width} bytes`;
          machine.mmio.access(gpa, page, OPERANDS, width, isWrite);
        }
        const around = [page.getUint8(OPERANDS - 1), page.getUint8(OPERANDS + operandBytes)];
        assert.deepEqual(around, [CANARY, CANARY], "an access touches its operand only");
        if (random.chance(0.01)) machine.endOfInterrupt(random.below(256));
        serveDevices(made);
      }
    } catch (error) {
      throw new Error(`Fails with FUZZ_SEED=${seed} at ${step}`, { cause: error });
    } finally {
      made.release();
    }
    const bound = ACCESSES; // what a guest causes is at most one event an access
    assert.ok(events.length <= bound, `${events.length} events with FUZZ_SEED=${seed}`);
    for (const state of made.virtio) {
      assert.ok(state.queueCount > 0, "the head of a device's block is intact");
    }
  }
  close(ioWakeFd);
});
