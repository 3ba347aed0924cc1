/**
 * Entry point of an I/O Worker.
 *
 * L5. Serves virtqueues, character devices and timers from one epoll set; leaves it only for messages. What vCPUs leave in
 * shared blocks is announced by one eventfd, so a wake-up costs a look at every device of the Worker.
 */
import { EPOLL } from "@ffi/libc/epoll.ts";
import { drainEvent, signalEvent } from "@ffi/libc/io.ts";
import { wrap } from "@ffi/libc/mmap.ts";
import { setAffinity, setThreadName } from "@ffi/libc/thread.ts";
import { COM1_IRQ } from "@vmm/arch/x86_64/layout.ts";
import { type OpenCharDevice, openCharDevice } from "@vmm/backends/chardev/open_char_device.ts";
import type { ChardevDescriptor } from "@vmm/backends/chardev/open_chardev.ts";
import type { TpmDescription } from "@vmm/backends/tpm/connect.ts";
import { TpmLink } from "@vmm/backends/tpm/link.ts";
import { IoapicBlock, IoapicLines } from "@vmm/devices/legacy/ioapic.ts";
import { SerialBlock, SerialInput } from "@vmm/devices/legacy/serial.ts";
import { FwCfgBlock, FwCfgDma } from "@vmm/devices/fw_cfg/fw_cfg.ts";
import { CrbBlock, CrbService } from "@vmm/devices/tpm/crb.ts";
import { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import { GuestMemory, type RegionFile } from "@vmm/memory/guest_memory.ts";
import type { IoEnvironment, VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import { CONFIG_CHANGED, DeviceRunner, type RunnerShare } from "@vmm/virtio/runner.ts";
import { type FwCfgDescription, FwCfgItems } from "./fw_cfg_items.ts";
import { attachDevice, type AttachedDevice } from "./io_devices.ts";
import { IoLoop } from "./io_loop.ts";
import { IrqRoutes, IrqRoutesBlock } from "./irq_routes.ts";
import type { PlatformBuffers } from "./platform.ts";
import { IDLE_THREAD_NAME, postEvent, WorkerService } from "./worker_serve.ts";

/** A RAM region as a Worker needs it. */
export interface RegionDescription {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly hostAddress: bigint;
  readonly file?: RegionFile;
}

/** A device, or the queues of it that one Worker serves. */
export interface DeviceShare {
  readonly descriptor: VirtioDeviceDescriptor;
  /** Absent: all of them. */
  readonly share?: {
    readonly number: number;
    readonly queues: readonly number[];
    /** For `RunnerShare.running`. */
    readonly running: SharedArrayBuffer;
    /** What wakes the Worker of each share. */
    readonly wakeFds: readonly number[];
  };
}

/** Everything an I/O Worker starts from; plain and cloneable. */
export interface IoStart {
  readonly name: string;
  /** Host CPUs to run on. */
  readonly cpus?: readonly number[];
  readonly vmFd: number;
  /** vCPUs and main raise it. */
  readonly wakeFd: number;
  readonly regions: readonly RegionDescription[];
  readonly platform: PlatformBuffers;
  readonly irqRoutes: SharedArrayBuffer;
  /** The serial port's back-end, when this Worker serves it. */
  readonly serial?: ChardevDescriptor;
  /** Back-ends that only print (debug console, firmware): their rings are drained here. */
  readonly outputs: readonly ChardevDescriptor[];
  /** The firmware configuration device, when there is one. */
  readonly fwCfg?: FwCfgDescription;
  /** The TPM, when there is one. */
  readonly tpm?: TpmDescription;
  /** Devices present at boot. */
  readonly devices: readonly DeviceShare[];
}

interface Device {
  readonly kickFds: readonly number[];
  readonly attached: AttachedDevice;
  readonly runner: DeviceRunner;
}

/** No host has more CPUs: a larger number would only make a longer mask. */
const MAX_CPU = 0xffff;
let memory: GuestMemory | undefined;
let vm: VmFd | undefined;
let irqRoutes: IrqRoutes | undefined;
let serial: { device: OpenCharDevice; input: SerialInput } | undefined;
let fwCfg: FwCfgDma | undefined;
let tpm: { link: TpmLink; service: CrbService } | undefined;
const devices = new Map<string, Device>();
const charDevices = new Map<SharedArrayBuffer, OpenCharDevice>();

const loop = new IoLoop((error) =>
  postEvent({ kind: "log", level: "error", key: "io", text: `I/O Worker: ${error.stack ?? error.message}` })
);

const env: IoEnvironment = {
  watch: loop.watch.bind(loop),
  rewatch: loop.rewatch.bind(loop),
  unwatch: loop.unwatch.bind(loop),
  timer: loop.timer.bind(loop),
  attend: loop.attend.bind(loop),
  post: postEvent,
};

function charDevice(descriptor: ChardevDescriptor): OpenCharDevice {
  const known = charDevices.get(descriptor.block);
  if (known !== undefined) return known;
  const opened = openCharDevice(descriptor, env);
  charDevices.set(descriptor.block, opened);
  return opened;
}

/** Binds this thread to host CPUs. As with the original a host that lacks them does not keep the guest from its disk. */
function bind(cpus: readonly number[], { name }: IoStart): void {
  try {
    if (Math.max(...cpus) > MAX_CPU) throw new RangeError(`no host has a CPU ${Math.max(...cpus)}`);
    setAffinity(cpus);
  } catch (error) {
    const text = `Failed scheduling the virtqueue thread ${name} on the expected CPU set ${
      cpus.join(", ")
    }: ${(error as Error).message}`;
    postEvent({ kind: "log", level: "error", key: text, text });
  }
}

function start(request: IoStart): void {
  setThreadName(request.name);
  if (request.cpus !== undefined) bind(request.cpus, request);
  const interrupts = vm = new VmFd(request.vmFd);
  memory = new GuestMemory(request.regions.map((r) => ({ ...r, buffer: wrap(r.hostAddress, r.sizeBytes) })));
  loop.watch(request.wakeFd, EPOLL.IN, () => {
    drainEvent(request.wakeFd);
    woken();
  });
  const ioapic = IoapicBlock.attach(request.platform.ioapic);
  irqRoutes = new IrqRoutes(IrqRoutesBlock.attach(request.irqRoutes), ioapic, interrupts);
  request.outputs.forEach(charDevice);
  if (request.serial !== undefined) {
    const lines = new IoapicLines(ioapic, interrupts);
    const input = new SerialInput(SerialBlock.attach(request.platform.serial), lines, COM1_IRQ);
    serial = { device: charDevice(request.serial), input };
    serial.device.setInput(input);
  }
  if (request.fwCfg !== undefined) {
    const state = FwCfgBlock.attach(request.fwCfg.block);
    fwCfg = new FwCfgDma(state, new FwCfgItems(request.fwCfg), memory);
    fwCfg.poll();
  }
  if (request.tpm !== undefined) {
    const link = new TpmLink(request.tpm, env);
    tpm = { link, service: new CrbService(CrbBlock.attach(request.platform.tpm), link) };
    tpm.service.poll();
  }
  request.devices.forEach(addDevice);
}

/** Somebody left something in a shared block. */
function woken(): void {
  for (const { runner, attached } of devices.values()) {
    runner.poll();
    attached.woken?.();
  }
  tpm?.service.poll();
  fwCfg?.poll();
  for (const chardev of charDevices.values()) chardev.woken();
}

function addDevice({ descriptor, share }: DeviceShare): void {
  const attached = attachDevice(descriptor, {
    env,
    charDevice,
    memory: memory!,
    vm: vm!,
    irqRoutes: irqRoutes!,
    share: share?.number ?? 0,
  });
  const runnerShare: RunnerShare | undefined = share && {
    number: share.number,
    queues: share.queues,
    running: new Int32Array(share.running),
    wake: (other) => signalEvent(share.wakeFds[other]),
  };
  const services = { memory: memory!, interrupts: vm!, env };
  const runner = new DeviceRunner(descriptor, attached.start, services, false, runnerShare);
  const kickFds: number[] = [];
  if (attached.ownsKicks !== true) {
    descriptor.kickFds.forEach((fd, queue) => {
      if (share?.queues.includes(queue) === false) return;
      kickFds.push(fd);
      loop.watchEvent(fd, () => runner.kick(queue));
    });
  }
  devices.set(descriptor.id, { kickFds, attached, runner });
  runner.poll();
}

function removeDevice(id: string): void {
  const device = devices.get(id);
  if (device === undefined) return;
  device.runner.remove();
  device.attached.detach();
  for (const fd of device.kickFds) loop.unwatch(fd);
  devices.delete(id);
}

/** Guest memory has grown. */
function addRegion(region: RegionDescription): void {
  memory!.add({ ...region, buffer: wrap(region.hostAddress, region.sizeBytes) });
  for (const { attached } of devices.values()) attached.regionAdded?.(region.gpa);
}

/** Nothing changes shared blocks or guest memory until `resume`. */
function pause(): void {
  serial?.device.setInput(undefined);
  for (const device of devices.values()) device.runner.pause();
  tpm?.service.pause();
}

function resume(): void {
  for (const device of devices.values()) device.runner.resume();
  tpm?.service.resume();
  serial?.device.setInput(serial.input);
}

/**
 * Stops everything before the VM goes away: nothing in this Worker touches guest memory afterwards. The loop is not entered
 * until the next `start`: a Worker blocked in it would never end.
 */
function stop(): void {
  for (const id of [...devices.keys()]) removeDevice(id);
  tpm?.link.close();
  tpm = fwCfg = serial = undefined;
  for (const chardev of charDevices.values()) chardev.stop();
  charDevices.clear();
  loop.clear();
  vm = memory = irqRoutes = undefined;
}

/** An order of main for a device. */
function command(order: { id: string; command: { kind: string } }): unknown {
  const device = devices.get(order.id);
  if (device === undefined) return undefined;
  const { attached, runner } = device;
  return attached.idle !== undefined && !runner.active && order.command.kind !== CONFIG_CHANGED
    ? attached.idle(order.command)
    : runner.command(order.command);
}

const service: WorkerService = new WorkerService(
  {
    attach: () => {},
    start,
    stop,
    rest: () => setThreadName(IDLE_THREAD_NAME),
    end: () => {
      stop();
      loop.close();
    },
    addDevice,
    removeDevice,
    pause,
    resume,
    command,
    addRegion,
    windowChanged: (id: string) => devices.get(id)?.runner.command({ kind: "resize" }),
  },
  () => {
    if (vm !== undefined) loop.run(() => service.hasMail());
  },
);
service.serve();
