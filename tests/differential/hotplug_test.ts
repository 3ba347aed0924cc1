/**
 * Adding and removing devices of every kind on a running VM, beside the original: statuses, ids, addresses, error chains,
 * what the guest's hot-plug registers show, what `vm.info` says, events.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { HOTPLUG_CPUS, PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = {
  kvm: true,
  root: true,
  binary: true,
  reference: true,
  commands: ["ip", "qemu-storage-daemon", VIRTIOFSD],
};
const MIB = 1 << 20;
const SEGMENTS = [0, 1];

/** A machine to plug into; what happens to it is written down line by line. */
class Subject implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly #stack = new AsyncDisposableStack();
  readonly #slots: PciHotplug;
  #removals = 0;

  private constructor(
    readonly vm: Vm,
    readonly puppet: Puppet,
    readonly disk: TempDisk,
    readonly second: TempDisk,
  ) {
    this.#slots = new PciHotplug(puppet);
    for (const owned of [puppet, disk, second, vm]) this.#stack.use(owned);
  }

  static async start(program: ProgramName, netns: string, more: string[]): Promise<Subject> {
    const puppet = await Puppet.make();
    const disk = await TempDisk.pattern(2 * MIB);
    const second = await TempDisk.pattern(2 * MIB);
    const platform = ["--platform", "num_pci_segments=2", "--cpus", HOTPLUG_CPUS];
    const usual = puppet.args();
    usual.splice(usual.indexOf("--console"), 2);
    const args = [...usual, "--console", "null", ...platform, ...more];
    const vm = await Vm.start({ program, netns, events: true, args });
    const subject = new Subject(vm, puppet, disk, second);
    await puppet.started();
    return subject;
  }

  /** A daemon that lives as long as the subject. */
  async daemon(start: Promise<Daemon>): Promise<string> {
    return this.#stack.use(await start).socket;
  }

  path(name: string): string {
    return join(this.disk.directory, name);
  }

  /** Notes a line, without what differs from run to run, and without the interface Nephos names in addition. */
  note(text: string): void {
    const directories = { D1: this.disk.directory, D2: this.second.directory, P: this.puppet.directory };
    for (const [name, path] of Object.entries(directories)) text = text.replaceAll(path, name);
    this.lines.push(text.replace(/"mac":"[0-9a-f:]+"/g, '"mac":"…"').replace(/ \(interface=[^)]*\)/, ""));
  }

  /** What the guest's registers show since the last look. */
  async look(): Promise<void> {
    for (const segment of SEGMENTS) {
      const [added, removing] = [await this.#slots.added(segment), await this.#slots.removing(segment)];
      if (added + removing > 0) {
        this.note(`  segment ${segment}: added ${added.toString(2)}, removing ${removing.toString(2)}`);
      }
    }
  }

  /** Adds a device; notes answer, registers, configuration and device tree. */
  async add(kind: string, config: Record<string, unknown>): Promise<void> {
    const { status, body } = await this.vm.api.put(`vm.add-${kind}`, config);
    this.note(`add-${kind} ${JSON.stringify(config)}: ${status} ${body}`);
    await this.look();
    if (status !== 200) return;
    const { id } = JSON.parse(body);
    const { config: now, device_tree: tree } = await this.vm.api.info();
    const list = now[kind.replaceAll("-", "_")] ?? now[`${kind}s`];
    const own = Array.isArray(list) ? list.find((entry) => entry.id === id) : list;
    this.note(`  configuration ${JSON.stringify(own)}`);
    this.note(`  tree ${JSON.stringify(tree[id])} ${JSON.stringify(tree[`_virtio-pci-${id}`])}`);
  }

  /** Asks for a device's removal, and lets the guest eject it. */
  async remove(id: string): Promise<void> {
    const { status, body } = await this.vm.api.put("vm.remove-device", { id });
    this.note(`remove ${id}: ${status} ${body}`);
    if (status !== 204) return await this.look();
    const { device_tree: tree } = await this.vm.api.info();
    const segment = Number((tree[`_virtio-pci-${id}`] ?? tree[id]).pci_bdf.slice(0, 4));
    this.note(`  segment ${segment}: slot ${await this.#slots.ejectRemoved(segment)} ejected`);
    await eventually(
      `the end of ${id}`,
      async () => (await this.vm.api.info()).device_tree[id] === undefined,
    );
    await this.vm.events.waitFor("vm/device-removed", { count: ++this.#removals });
    // Of a device that could not be made the original keeps a node without a function.
    const left = Object.keys((await this.vm.api.info()).device_tree).filter((node) =>
      node.startsWith("_virtio-pci")
    );
    this.note(`  ${left.sort().join(" ")}`);
  }

  /** Ends the VM and notes its events. */
  async end(): Promise<string[]> {
    const events = (await this.vm.events.all()).filter(({ source }) => source !== "vmm");
    for (const { source, event, properties } of events) {
      this.note(`event ${source}/${event} ${JSON.stringify(Object.entries(properties ?? {}).sort())}`);
    }
    return this.lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Devices that stay. */
const FIXED = [
  "--balloon",
  "size=0",
  "--watchdog",
  "--rtc",
  "id=clock",
  "--pvpanic",
  "--rng",
  "src=/dev/urandom,iommu=on",
];

type Script = (subject: Subject) => Promise<void>;

const SCRIPTS: Record<string, Script> = {
  async disks(s) {
    await s.add("disk", { path: s.disk.path, image_type: "Raw" });
    await s.add("disk", { path: s.disk.path, image_type: "Raw" });
    await s.add("disk", { path: s.path("missing"), image_type: "Raw" });
    await s.add("disk", {
      path: s.second.path,
      image_type: "Raw",
      id: "own",
      pci_device_id: 9,
      readonly: true,
    });
    await s.add("disk", { path: s.second.path, image_type: "Raw", id: "own", readonly: true });
    await s.add("disk", { path: s.second.path, image_type: "Raw", pci_device_id: 9, readonly: true });
    await s.add("disk", { path: s.second.path, image_type: "Raw", pci_segment: 1, readonly: true });
    await s.add("disk", { path: s.second.path, image_type: "Raw", pci_segment: 2, readonly: true });
    await s.add("disk", { path: s.second.path, image_type: "Qcow2", readonly: true });
    await s.add("disk", { path: s.second.path, image_type: "Raw", num_queues: 9, readonly: true });
    await s.remove("own");
    await s.add("disk", {
      path: s.second.path,
      image_type: "Raw",
      id: "own",
      pci_device_id: 9,
      readonly: true,
    });
    await s.remove("_disk0");
    await s.add("disk", { path: s.disk.path, image_type: "Raw" });
    await s.remove("_virtio-pci-own");
  },

  async "network devices"(s) {
    await s.add("net", { tap: "tap0", mac: "52:54:00:00:00:01" });
    await s.add("net", { tap: "tap0" });
    await s.add("net", { tap: "a-name-that-is-much-too-long" });
    await s.add("net", { tap: "tap2", num_queues: 3, id: "odd" });
    await s.add("net", { tap: "tap1", id: "second", pci_segment: 1 });
    await s.add("net", { tap: "tap1", id: "second" });
    await s.add("net", { num_queues: 1 });
    await s.remove("_net0");
    await s.add("net", { tap: "tap0", id: "_net0" });
    await s.remove("second");
  },

  async "memory and sockets"(s) {
    await s.add("pmem", { file: s.disk.path });
    await s.add("pmem", { file: s.second.path, discard_writes: true, id: "private", pci_segment: 1 });
    await s.add("pmem", { file: s.path("missing") });
    await s.add("vsock", { cid: 3, socket: s.path("vsock") });
    await s.add("vsock", { cid: 4, socket: s.path("vsock2") });
    await s.remove("private");
    await s.remove("_pmem0");
    await s.remove("_vsock2");
    await s.add("vsock", { cid: 5, socket: s.path("vsock3"), id: "again" });
  },

  async "devices of other processes"(s) {
    const blk = await s.daemon(Daemon.storage(s.path("blk"), s.disk.path));
    await s.add("disk", { vhost_user: true, vhost_socket: blk });
    await s.add("disk", { vhost_user: true });
    await s.remove("_disk0");
    const fs = await s.daemon(Daemon.fileSystem(s.path("fs"), s.second.directory));
    await s.add("fs", { tag: "shared", socket: fs });
    await s.add("fs", { tag: "shared", socket: s.path("nothing"), iommu: true });
    await s.remove("_fs1");
    const generic = await s.daemon(Daemon.storage(s.path("generic"), s.second.path));
    await s.add("generic-vhost-user", { device_type: 2, socket: generic, queue_sizes: [64], id: "any" });
    await s.add("generic-vhost-user", { device_type: 2, socket: generic, queue_sizes: [64], id: "any" });
    await s.remove("any");
    const net = await s.daemon(Daemon.network(s.path("net"), "tap0", { netns: s.vm.options.netns }));
    await s.add("net", { vhost_user: true, vhost_socket: net, mac: "52:54:00:00:00:07", pci_segment: 1 });
    await s.remove("_net2");
  },

  async "what cannot be removed"(s) {
    const { device_tree: tree } = await s.vm.api.info();
    for (const id of ["nobody", "", ...Object.keys(tree).sort()]) await s.remove(id);
    await s.add("disk", { path: s.disk.path, image_type: "Raw", id: "twice" });
    for (let time = 0; time < 2; time++) {
      const { status, body } = await s.vm.api.put("vm.remove-device", { id: "twice" });
      s.note(`remove twice, time ${time}: ${status} ${body}`);
    }
    await s.look();
  },

  async "names that are taken"(s) {
    const own = { path: s.disk.path, image_type: "Raw", readonly: true };
    const other = { path: s.second.path, image_type: "Raw", readonly: true };
    await s.add("disk", { ...own, id: "_virtio-pci-__rng" });
    await s.add("disk", { ...own, id: "_disk0" });
    await s.add("disk", other);
    await s.remove("_disk1");
    await s.add("pmem", { file: s.second.path, discard_writes: true, id: "leaving" });
    const { status, body } = await s.vm.api.put("vm.remove-device", { id: "leaving" });
    s.note(`ask for leaving: ${status} ${body}`);
    await s.add("pmem", { file: s.second.path, discard_writes: true, id: "leaving" });
    await s.add("disk", { ...other, id: "leaving", iommu: true });
    await s.remove("leaving");
    await s.add("disk", { ...other, id: "leaving" });
    await s.vm.api.mustPut("vm.shutdown");
    await s.vm.api.mustPut("vm.add-pmem", { file: s.disk.path, discard_writes: true, id: "_disk1" });
    await s.vm.api.mustPut("vm.add-disk", own);
    await s.vm.api.mustPut("vm.boot");
    const { config, device_tree: tree } = await s.vm.api.info();
    s.note(`after a boot: ${config.disks.map(({ id }: { id: string }) => id)}; ${Object.keys(tree).sort()}`);
    await s.add("disk", other);
  },

  async "a disk that was asked for"(s) {
    const resize = async () => {
      const { status, body } = await s.vm.api.put("vm.resize-disk", { id: "late", desired_size: 4 * MIB });
      s.note(`resize-disk: ${status} ${body}; ${(await Deno.stat(s.disk.path)).size} bytes`);
    };
    await s.add("disk", { path: s.disk.path, image_type: "Raw", id: "late" });
    await s.vm.api.mustPut("vm.remove-device", { id: "late" });
    await resize();
    await s.remove("late");
    await s.add("disk", { path: s.disk.path, image_type: "Raw", id: "late" });
    await resize();
  },

  async "a paused VM"(s) {
    await s.vm.api.mustPut("vm.pause");
    const { status, body } = await s.vm.api.put("vm.add-disk", { path: s.disk.path, image_type: "Raw" });
    s.note(`add-disk: ${status} ${body}`);
    const removal = await s.vm.api.put("vm.remove-device", { id: "_disk0" });
    s.note(`remove: ${removal.status} ${removal.body}`);
    await s.vm.api.mustPut("vm.resume");
    await s.look();
  },
};

async function story(program: ProgramName, script: Script): Promise<string[]> {
  await using network = await NetworkNamespace.create();
  for (const tap of ["tap0", "tap1", "tap2"]) await network.addTap(tap);
  await using subject = await Subject.start(program, network.name, FIXED);
  await script(subject);
  return await subject.end();
}

for (const [name, script] of Object.entries(SCRIPTS)) {
  testWith(NEEDS, `hot-plug as with the original: ${name}`, async () => {
    const [ours, theirs] = await Promise.all([story("nephos", script), story("reference", script)]);
    assert.deepEqual(ours, theirs);
  });
}
