/**
 * Kata Containers, runtime in Rust (`runtime-rs`, `hypervisor/src/ch`): one connection for a sandbox's whole life, by the
 * original's own client library, with bodies as serde writes them: `null` for what is not set.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { RustClient, seen } from "./clients.ts";
import { conversation } from "./conversation.ts";
import { Descriptors, dial, gone, tapDescriptors } from "./host.ts";

const MIB = 1 << 20;

/** `serde_json::to_string_pretty`: as JavaScript writes it, two spaces deep. */
const pretty = (value: unknown) => JSON.stringify(value, null, 2);

/** `VmConfig::try_from(NamedHypervisorConfig)`; members of the structures it has of its own, the old and the unknown. */
function vmConfig(directory: string): Record<string, unknown> {
  return {
    cpus: {
      boot_vcpus: 2,
      max_vcpus: 4,
      topology: { threads_per_core: 1, cores_per_die: 4, dies_per_package: 1, packages: 1 },
      kvm_hyperv: false,
      max_phys_bits: 46,
      features: { amx: false },
    },
    memory: {
      size: 128 * MIB,
      mergeable: false,
      hotplug_method: "Acpi",
      hotplug_size: 1024 * MIB,
      shared: true,
      hugepages: false,
      prefault: false,
    },
    payload: {
      firmware: null,
      kernel: join(directory, "vmlinux"),
      cmdline: "reboot=k panic=1 systemd.unit=kata-containers.target quiet root=/dev/pmem0p1 no_timer_check",
      initramfs: null,
    },
    rng: { src: "/dev/urandom", iommu: false },
    balloon: { size: 0, deflate_on_oom: false, free_page_reporting: true },
    fs: [{
      tag: "kataShared",
      socket: join(directory, "virtiofsd.sock"),
      num_queues: 1,
      queue_size: 1024,
      id: null,
      pci_segment: 1,
    }],
    pmem: [{
      file: join(directory, "image"),
      size: null,
      iommu: false,
      discard_writes: true,
      id: null,
      pci_segment: 0,
    }],
    vsock: { cid: 3, socket: join(directory, "ch-vm.sock"), iommu: false, id: null, pci_segment: 0 },
    serial: { file: null, mode: "Tty", iommu: false },
    console: { file: null, mode: "Off", iommu: false },
    iommu: false,
    watchdog: false,
    platform: {
      num_pci_segments: 2,
      iommu_segments: null,
      serial_number: null,
      uuid: null,
      oem_strings: null,
      tdx: false,
    },
  };
}

/** `DiskConfig`, `disable_io_uring` with it. */
const diskConfig = (path: string) => ({
  path,
  readonly: false,
  direct: false,
  iommu: false,
  num_queues: 1,
  queue_size: 128,
  vhost_user: false,
  vhost_socket: null,
  rate_limiter_config: null,
  id: null,
  disable_io_uring: false,
  pci_segment: 0,
  image_type: "Raw",
});

/** `NetConfig`: without tap and id when descriptors come along, zeros left out. */
const netConfig = (mac: string) => ({
  ip: "192.168.249.1",
  mask: "255.255.255.0",
  mac,
  iommu: false,
  num_queues: 2,
  vhost_user: false,
  vhost_mode: "Client",
});

/** `parse_ch_log_level`: a line's level is where one of these words stands. */
const LOG_LEVEL = /INFO:|DEBG:|DEBUG:|WARN:|ERRO:|ERROR:|TRCE:|TRACE:/;

const NEEDS = { root: true, commands: [VIRTIOFSD, "ip"] };

conversation("Kata Rust: a sandbox over one connection, from features to kill", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0_kata", { queues: 2 });
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
  for (const [name, sizeBytes] of [["image", 4 * MIB], ["rootfs.img", 8 * MIB]] as const) {
    await Deno.writeFile(join(directory, name), new Uint8Array(sizeBytes));
  }
  await Deno.mkdir(join(directory, "shared"));
  await using _fs = await Daemon.fileSystem(join(directory, "virtiofsd.sock"), join(directory, "shared"));
  const socket = join(directory, "ch-api.sock");

  // cloud_hypervisor_launch: in the sandbox's network namespace, with pipes for both outputs.
  const vm = await talk.start(["--api-socket", socket, "-v", "--seccomp", "false"], {
    prefix: ["env", "-C", "/"],
    env: { RUST_BACKTRACE: "full" },
    netns: network.name,
  });
  await dial(socket);
  using client = new RustClient(socket);

  // cloud_hypervisor_check_running
  const ping = await client.get("vmm.ping");
  assert.equal(ping.status, 200);
  const { pid, version, build_version, features } = ping.json();
  assert.equal(pid, vm.pid);
  talk.read("version", [version, build_version]);
  assert(Array.isArray(features) && features.every((feature: unknown) => typeof feature === "string"));
  talk.read("feature kvm", features.includes("kvm"));
  talk.read("feature tdx", features.includes("tdx"));
  talk.read("features", features, "guest_debug is not offered yet: docs/differences.md");

  // boot_vm
  talk.read("create", seen(await client.put("vm.create", pretty(vmConfig(directory)))));
  talk.read("boot", seen(await client.put("vm.boot")));
  await vm.stdout.waitFor("U");
  const info = await client.get("vm.info");
  talk.read("info", seen(info));
  assert.equal(info.json().state, "Running");
  assert.equal(info.json().config.memory.size, 128 * MIB); // resize_memory reads it

  assert.equal((await Deno.lstat(join(directory, "ch-vm.sock"))).isSocket, true); // hvsock://, for the agent

  // add_device of networks: two queue pairs, descriptors with the request line, the body in messages of its own.
  using tap = Descriptors.ofTap(network, "tap0_kata", 2);
  const net = await client.do(
    "PUT",
    "vm.add-net",
    JSON.stringify({ ...netConfig("02:42:ac:11:00:03"), num_queues: 4 }),
    tap.numbers,
  );
  talk.read("add-net", seen(net));
  assert.equal(net.status, 200);
  assert.equal(await tapDescriptors(vm.pid, "tap0_kata") > 0, true);

  // add_device and remove_device of a block device.
  const disk = await client.put("vm.add-disk", JSON.stringify(diskConfig(join(directory, "rootfs.img"))));
  talk.read("add-disk", seen(disk));
  const { id, bdf } = disk.json();
  assert.match(bdf, /^0000:00:[0-9a-f]{2}\.0$/); // clh_pci_info_to_path
  talk.read("remove-device", seen(await client.put("vm.remove-device", JSON.stringify({ id }))));
  const absent = await client.put("vm.add-disk", JSON.stringify(diskConfig(join(directory, "absent"))));
  talk.read("add-disk of a file that is not there", absent.status);
  assert.equal(absent.status, 500);
  // With a wrong address it gets a reason and the connection goes on.
  const wrong = JSON.stringify({ ...netConfig("02:42"), num_queues: 4 });
  talk.read("add-net with a wrong address", seen(await client.do("PUT", "vm.add-net", wrong, tap.numbers)));

  // get_thread_ids
  const vcpus = await eventually("a thread of each vCPU", async () => {
    const names = (await vm.threads()).filter((name) => name.startsWith("vcpu"));
    return names.length === 2 && names;
  });
  talk.read("threads of vCPUs", vcpus);

  // resize_vcpu and resize_memory: members that are not asked for are null.
  const resize = (wish: Record<string, unknown>) =>
    client.put(
      "vm.resize",
      JSON.stringify({ desired_vcpus: null, desired_ram: null, desired_balloon: null, ...wish }),
    );
  talk.read("resize to the present memory", seen(await resize({ desired_ram: 128 * MIB })));
  talk.read("resize to too many vCPUs", seen(await resize({ desired_vcpus: 5 })));
  if (!talk.original) {
    // Plugging vCPUs and memory is not there yet and says so.
    for (const wish of [{ desired_vcpus: 3 }, { desired_ram: 256 * MIB }]) {
      const answer = await resize(wish);
      assert.equal(answer.status, 500);
      assert.match(answer.body, /not supported/);
    }
  }

  // stop_vm: the answer is all it waits for; then it kills whatever is left.
  talk.read("shutdown", seen(await client.put("vmm.shutdown")));
  vm.kill("SIGKILL");
  await vm.exited;
  await dialFails(socket);
  const lines = vm.stderr.text.split("\n").filter((line) => line.startsWith("cloud-hypervisor: "));
  assert(lines.length > 0);
  for (const line of lines) assert.match(line, LOG_LEVEL);
});

/** After a kill the file may lie there; nobody listens on it. */
async function dialFails(socket: string): Promise<void> {
  await assert.rejects(Deno.connect({ transport: "unix", path: socket }));
}

conversation(
  "Kata Rust: devices and vsock are added before boot, then the VM is deleted",
  {},
  async (talk) => {
    const { directory } = talk;
    await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
    await Deno.writeFile(join(directory, "disk.img"), new Uint8Array(MIB));
    const socket = join(directory, "ch-api.sock");
    const vm = await talk.start(["--api-socket", socket]);
    await dial(socket);
    using client = new RustClient(socket);
    const { fs: _fs, pmem: _pmem, balloon: _balloon, vsock: _vsock, ...config } = vmConfig(directory);
    talk.read("create", seen(await client.put("vm.create", pretty(config))));
    // Added to a VM that does not run, they are answered without a body.
    const disk = JSON.stringify({ ...diskConfig(join(directory, "disk.img")), id: "initdata" });
    talk.read("add-disk", seen(await client.put("vm.add-disk", disk)));
    const vsock = { cid: 3, socket: join(directory, "kata.hvsock"), iommu: false, id: null, pci_segment: 0 };
    talk.read("add-vsock", seen(await client.put("vm.add-vsock", JSON.stringify(vsock))));
    talk.read("add-vsock again", seen(await client.put("vm.add-vsock", JSON.stringify(vsock))));
    const fs = {
      tag: "kataShared",
      socket: "/nonexistent",
      num_queues: 1,
      queue_size: 1024,
      id: null,
      pci_segment: 1,
    };
    talk.read("add-fs", seen(await client.put("vm.add-fs", JSON.stringify(fs))));
    talk.read("info", seen(await client.get("vm.info")));
    talk.read("remove-device", seen(await client.put("vm.remove-device", '{"id":"initdata"}')));
    talk.read("remove-device again", seen(await client.put("vm.remove-device", '{"id":"initdata"}')));
    talk.read("info without the disk", seen(await client.get("vm.info")));
    talk.read("delete", seen(await client.put("vm.delete")));
    talk.read("info without a VM", seen(await client.get("vm.info")));
    talk.read("shutdown", seen(await client.put("vmm.shutdown")));
    talk.read("exit", await vm.waitForExit());
    await gone(socket);
  },
);
