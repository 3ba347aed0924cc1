/**
 * All that a guest can read of a machine without starting a driver: boot memory, PCI functions, virtio registers, ports,
 * platform registers. Read by a puppet guest, as text by name, so that two machines can be compared line by line.
 *
 * Tests only.
 *
 * @module
 */

import { type Command, Puppet } from "@tests/framework/puppet.ts";

const PAGE_BYTES = 4096;
const BOOT_MEMORY_BYTES = 1 << 20;
const WORD_BASE = 2 ** 32;
const ALL_ONES = 0xffff_ffff;

const ECAM_BASE = 0xe800_0000;
const ECAM_SEGMENT_BYTES = 1 << 20;
const SLOTS = 32;
const SLOT_BYTES = 8 * PAGE_BYTES;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CONFIG_ENABLE = 0x8000_0000;
const LEGACY_CONFIG_BYTES = 256;
const COMMAND = 0x04;
const BAR_0 = 0x10;
const BARS = 6;
const CAPABILITIES = 0x34;
const MEMORY_64 = 4;
const VIRTIO_VENDOR = 0x1af4;
const VIRTIO_DEVICE_BASE = 0x1040;
/** Bytes of device configuration by virtio device id: what the original reads behind them are leftovers. */
const CONFIG_BYTES: Record<number, number> = { 1: 12, 2: 60, 3: 12, 5: 8, 19: 8, 23: 40, 24: 56, 27: 16 };
const CAP_VENDOR = 0x09;
const CFG_COMMON = 1;
const CFG_ISR = 3;
const CFG_DEVICE = 4;

const IOAPIC = 0xfec0_0000;
const IOAPIC_REGISTERS = 0x40;
const PLATFORM_PAGES = 4;
const PLATFORM_END_BELOW_TOP = 0x1_0000;

/** Registers that tell the time. */
const CLOCK_PORTS = new Set([0x70, 0x71, 0x608, 0x609, 0x60a, 0x60b]);
/** Ports that are looked at one by one; behind them there is nothing on this machine. */
const PORTS = 0x1000;

/** Text by name. */
export type View = Map<string, string>;

const hex = (value: number, digits = 8) => (value >>> 0).toString(16).padStart(digits, "0");

/** Hexadecimal words, with runs of one value shortened. */
function dump(words: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < words.length;) {
    let end = at + 1;
    while (end < words.length && words[end] === words[at]) end++;
    parts.push(end - at > 1 ? `${hex(words[at])}*${end - at}` : hex(words[at]));
    at = end;
  }
  return parts.join(" ");
}

/** Reads everything. The guest must just have started; afterwards its BARs lie elsewhere. @param segments PCI segments */
export async function registerView(puppet: Puppet, segments: number, physBits: number): Promise<View> {
  const view: View = new Map();
  await viewBootMemory(view, puppet);
  await viewPorts(view, puppet);
  await viewPlatform(view, puppet, physBits);
  for (let segment = 0; segment < segments; segment++) await viewSegment(view, puppet, segment);
  return view;
}

async function viewBootMemory(view: View, puppet: Puppet): Promise<void> {
  const bytes = await puppet.readMemory(0, BOOT_MEMORY_BYTES);
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const words = [...new Uint32Array(bytes.buffer, at, PAGE_BYTES / 4)];
    if (words.some((word) => word !== 0)) view.set(`boot memory at ${hex(at, 5)}`, dump(words));
  }
}

async function viewPorts(view: View, puppet: Puppet): Promise<void> {
  for (const [name, step] of [["inb", 1], ["inw", 2], ["inl", 4]] as const) {
    const ports = Array.from({ length: PORTS }, (_, port) => port)
      .filter((port) =>
        !Array.from({ length: step }, (_, byte) => port + byte).some((at) => CLOCK_PORTS.has(at))
      );
    const values = await puppet.run(...ports.map((port): Command => [name, port]));
    const nothing = (ALL_ONES >>> (32 - 8 * step)) >>> 0;
    ports.forEach((port, index) => {
      if (values[index] !== nothing) view.set(`port ${hex(port, 4)} ${name}`, hex(values[index], 2 * step));
    });
  }
  const cmos = Array.from({ length: 128 }, (_, index) => index).filter((index) =>
    index > 0x0d && index !== 0x32
  );
  const values = await puppet.run(
    ...cmos.flatMap((index): Command[] => [["outb", 0x70, index], ["inb", 0x71]]),
  );
  view.set("CMOS", dump(values.filter((_, index) => index % 2 === 1)));
}

async function viewPlatform(view: View, puppet: Puppet, physBits: number): Promise<void> {
  const registers = Array.from({ length: IOAPIC_REGISTERS }, (_, index) => index);
  const values = await puppet.run(
    ...registers.flatMap((register): Command[] => [["writel", IOAPIC, register], ["readl", IOAPIC + 0x10]]),
  );
  view.set("IOAPIC", dump(values.filter((_, index) => index % 2 === 1)));
  const end = 2 ** physBits - PLATFORM_END_BELOW_TOP;
  for (let page = 1; page <= PLATFORM_PAGES; page++) {
    const at = await puppet.map(end - page * PAGE_BYTES);
    for (const [name, step] of [["readb", 1], ["readl", 4]] as const) {
      const commands = Array.from({ length: 0x20 / step }, (_, index): Command => [name, at + index * step]);
      view.set(`platform page ${page} ${name}`, dump(await puppet.run(...commands)));
    }
  }
}

async function viewSegment(view: View, puppet: Puppet, segment: number): Promise<void> {
  const ecam = ECAM_BASE + segment * ECAM_SEGMENT_BYTES;
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot);
  const ids = await puppet.run(...slots.map((slot): Command => ["readl", ecam + slot * SLOT_BYTES]));
  for (const slot of slots.filter((slot) => ids[slot] !== ALL_ONES)) {
    const name = `PCI ${hex(segment, 4)}:00:${hex(slot, 2)}.0`;
    const words = Array.from({ length: PAGE_BYTES / 4 }, (_, index) => index * 4);
    const config = await puppet.run(...words.map((at): Command => ["readl", ecam + slot * SLOT_BYTES + at]));
    view.set(`${name} configuration`, dump(config));
    const bytes = Array.from({ length: LEGACY_CONFIG_BYTES }, (_, at) => at);
    const narrow = await puppet.run(...bytes.map((at): Command => ["readb", ecam + slot * SLOT_BYTES + at]));
    view.set(`${name} configuration by bytes`, dump(narrow));
    if (segment === 0) view.set(`${name} configuration by ports`, dump(await byPorts(puppet, slot)));
    const functions = Array.from({ length: 7 }, (_, index) => index + 1);
    view.set(
      `${name} further functions`,
      dump(
        await puppet.run(
          ...functions.map((index): Command => ["readl", ecam + slot * SLOT_BYTES + index * PAGE_BYTES]),
        ),
      ),
    );
    await viewBars(view, puppet, name, ecam + slot * SLOT_BYTES, config);
    if ((ids[slot] & 0xffff) === VIRTIO_VENDOR) {
      await viewVirtio(view, puppet, name, ecam + slot * SLOT_BYTES, config);
    }
    await viewWritable(view, puppet, name, ecam + slot * SLOT_BYTES, config);
  }
}

async function byPorts(puppet: Puppet, slot: number): Promise<number[]> {
  const offsets = Array.from({ length: LEGACY_CONFIG_BYTES / 4 }, (_, index) => index * 4);
  const values = await puppet.run(...offsets.flatMap((at): Command[] => [
    ["outl", CONFIG_ADDRESS, CONFIG_ENABLE + (slot << 11) + at],
    ["inl", CONFIG_DATA],
  ]));
  return values.filter((_, index) => index % 2 === 1);
}

/** What each BAR answers to all ones: its size and kind. */
async function viewBars(
  view: View,
  puppet: Puppet,
  name: string,
  at: number,
  config: number[],
): Promise<void> {
  const masks = (await puppet.run(
    ...Array.from({ length: BARS }, (_, bar) => at + BAR_0 + bar * 4).flatMap((register, bar): Command[] => [
      ["writel", register, ALL_ONES],
      ["readl", register],
      ["writel", register, config[(BAR_0 >> 2) + bar]],
    ]),
  )).filter((_, index) => index % 3 === 1);
  view.set(`${name} BAR masks`, dump(masks));
  const restored = await puppet.run(...masks.map((_, bar): Command => ["readl", at + BAR_0 + bar * 4]));
  view.set(`${name} BARs restored`, dump(restored));
}

/** Features, queues and device configuration, before any driver. */
async function viewVirtio(
  view: View,
  puppet: Puppet,
  name: string,
  at: number,
  config: number[],
): Promise<void> {
  await puppet.run(["writew", at + COMMAND, 6]);
  const bar = config[BAR_0 >> 2];
  const base = ((bar & ~0xf) >>> 0) + ((bar & 0x6) === MEMORY_64 ? config[(BAR_0 >> 2) + 1] * WORD_BASE : 0);
  const regions = new Map<number, { offset: number; length: number }>();
  for (let cap = config[CAPABILITIES >> 2] & 0xfc; cap !== 0;) {
    const head = config[cap >> 2];
    if ((head & 0xff) === CAP_VENDOR && !regions.has(head >>> 24)) {
      regions.set(head >>> 24, { offset: config[(cap >> 2) + 2], length: config[(cap >> 2) + 3] });
    }
    cap = (head >>> 8) & 0xfc;
  }
  const common = await puppet.map(base + regions.get(CFG_COMMON)!.offset);
  const selects = [0, 1, 2];
  const features = await puppet.run(
    ...selects.flatMap((select): Command[] => [["writel", common, select], ["readl", common + 4]]),
  );
  view.set(
    `${name} features`,
    features.filter((_, index) => index % 2 === 1).map((word) => hex(word)).join(" "),
  );
  const registers: [string, Command][] = [
    ["msix_config", ["readw", common + 0x10]],
    ["num_queues", ["readw", common + 0x12]],
    ["device_status", ["readb", common + 0x14]],
    ["config_generation", ["readb", common + 0x15]],
  ];
  const values = await puppet.run(...registers.map(([, command]) => command));
  view.set(
    `${name} common`,
    registers.map(([register], index) => `${register}=${hex(values[index], 4)}`).join(" "),
  );
  const queues = Array.from({ length: values[1] + 1 }, (_, queue) => queue);
  const fields = await puppet.run(
    ...queues.flatMap((queue): Command[] => [
      ["writew", common + 0x16, queue],
      ...[0x18, 0x1a, 0x1c, 0x1e].map((register): Command => ["readw", common + register]),
    ]),
  );
  for (const queue of queues) {
    const text = fields.slice(queue * 5 + 1, queue * 5 + 5).map((field) => hex(field, 4)).join(" ");
    view.set(`${name} queue ${queue}`, text);
  }
  const configBytes = CONFIG_BYTES[(config[0] >>> 16) - VIRTIO_DEVICE_BASE];
  const reads = [[CFG_ISR, "readb", 1], [CFG_DEVICE, "readb", 128], [
    CFG_DEVICE,
    "readl",
    configBytes ?? 0,
  ]] as const;
  for (const [type, read, lengthBytes] of reads) {
    const region = regions.get(type);
    if (region === undefined) continue;
    const start = await puppet.map(base + region.offset);
    const width = read === "readb" ? 1 : 4;
    const offsets = Array.from({ length: lengthBytes / width }, (_, index) => index * width);
    const words = await puppet.run(...offsets.map((offset): Command => [read, start + offset]));
    view.set(`${name} region ${type} ${read}`, dump(words));
  }
}

/** Which bits of the configuration space take what is written: all ones, then all zeros, to every word but the BARs. */
async function viewWritable(
  view: View,
  puppet: Puppet,
  name: string,
  at: number,
  config: number[],
): Promise<void> {
  const bars = Array.from({ length: BARS }, (_, bar) => BAR_0 + bar * 4);
  const offsets = Array.from({ length: LEGACY_CONFIG_BYTES / 4 }, (_, index) => index * 4)
    .filter((offset) => !bars.includes(offset));
  const values = await puppet.run(
    ...offsets.flatMap((offset): Command[] => [
      ["writel", at + offset, ALL_ONES],
      ["readl", at + offset],
      ["writel", at + offset, 0],
      ["readl", at + offset],
      ["writel", at + offset, config[offset >> 2]],
    ]),
  );
  const changed = offsets.flatMap((offset, index) => {
    const bits = (values[index * 5 + 1] ^ values[index * 5 + 3]) >>> 0;
    return bits === 0 ? [] : [`${hex(offset, 2)}:${hex(bits)}`];
  });
  view.set(`${name} writable bits`, changed.join(" "));
}
