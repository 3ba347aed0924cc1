/**
 * Kata Containers, runtime in Go (virtcontainers, `clh.go`): a sandbox from its first ping to its last.
 *
 * Its client is generated from the original's API document: it sends the document's defaults, members sorted by name,
 * with a line feed behind; networks go over a connection of their own with the tap's descriptors in the same message.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { type Answer, DescriptorSender, GoClient, goJson, goJsonOfMap, seen } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { Descriptors, gone, tapDescriptors, there } from "./host.ts";

const MIB = 1 << 20;
const READ_BYTES = 4096; // bufio.Reader

const NEEDS = { root: true, commands: [VIRTIOFSD, "ip"] };

/** What the OpenAPI generator makes of a client. */
const generatedClient = (socket: string) =>
  new GoClient(socket, {
    keepAlive: true,
    userAgent: "OpenAPI-Generator/1.0.0/go",
    withBody: { Accept: "application/json", "Content-Type": "application/json" },
    withoutBody: { Accept: "application/json" },
    encode: (body) => goJsonOfMap(body) + "\n", // json.Encoder ends with a line feed
  });

/** `VmConfig` as `CreateVM` and `AddDevice` of the runtime fill it in, on top of the document's defaults. */
function sandboxConfig(directory: string): Record<string, unknown> {
  return {
    payload: {
      kernel: join(directory, "vmlinux"),
      cmdline:
        "root=/dev/pmem0p1 rootflags=dax panic=1 no_timer_check noreplace-smp console=ttyS0,115200n8 " +
        "systemd.log_target=console agent.log=debug",
    },
    cpus: {
      boot_vcpus: 1,
      max_vcpus: 2,
      topology: { threads_per_core: 1, cores_per_die: 2, dies_per_package: 1, packages: 1 },
      kvm_hyperv: false,
    },
    memory: {
      size: 256 * MIB,
      hotplug_size: 1024 * MIB,
      hotplug_method: "Acpi",
      mergeable: false,
      shared: true,
      hugepages: false,
      prefault: false,
      thp: true,
    },
    rng: { src: "/dev/urandom", iommu: false },
    pmem: [{ file: join(directory, "image"), discard_writes: true, iommu: false }],
    fs: [{
      tag: "kataShared",
      socket: join(directory, "virtiofsd.sock"),
      num_queues: 1,
      queue_size: 1024,
      pci_segment: 1,
    }],
    vsock: { cid: 3, socket: join(directory, "clh.sock"), iommu: false },
    serial: { mode: "Tty", iommu: false },
    console: { mode: "Off", iommu: false },
    platform: { num_pci_segments: 2 },
    iommu: false,
    watchdog: false,
    pvpanic: false,
    landlock_enable: false,
  };
}

/** `NetConfig` with the document's defaults, an address among them that the VMM must not set on the tap. */
const netConfig = (mac: string) => ({
  mac,
  ip: "192.168.249.1",
  mask: "255.255.255.0",
  iommu: false,
  num_queues: 2,
  queue_size: 256,
  vhost_user: false,
  vhost_mode: "Client",
  offload_tso: true,
  offload_ufo: true,
  offload_csum: true,
  rate_limiter_config: { bandwidth: { size: 1250000, refill_time: 1000 } },
});

/** `vmAddNetPutRequest`: `httputil.DumpRequest` and `WriteMsgUnix` in one go, `http.ReadResponse` behind it. */
async function addNet(socket: string, config: unknown, descriptors: readonly number[]): Promise<Answer> {
  using sender = new DescriptorSender(socket, READ_BYTES);
  const body = goJsonOfMap(config);
  const answer = await sender.send(
    "PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n" +
      `Content-Length: ${body.length}\r\nContent-Type: application/json\r\n\r\n${body}`,
    descriptors,
  );
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
  const content = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  return { status, body: content, json: () => JSON.parse(content) };
}

/** `clhPciInfoToPath`: the slot is the guest's path, and nothing but domain, bus and function 0 is understood. */
function pciPath(bdf: string): string {
  const match = /^0000:00:([0-9a-f]{2})\.0$/.exec(bdf);
  assert(match, `Unexpected PCI address ${bdf} from clh hotplug`);
  return match[1];
}

/** `launchClh` and `isClhRunning`: the process must live while it is asked, every 10 ms, for up to 10 s. */
async function launch(talk: Talk, socket: string, client: GoClient, netns?: string): Promise<Vm> {
  const vm = await talk.start(["--api-socket", socket, "-v", "--seccomp", "false"], {
    env: { RUST_BACKTRACE: "full" },
    netns,
  });
  await eventually("clh.VmmPingGet", async () => {
    Deno.kill(vm.pid, "SIGCONT"); // kill(pid, 0) of the client: throws when it is gone
    try {
      return (await client.get("vmm.ping")).status === 200;
    } catch {
      return false;
    }
  });
  return vm;
}

conversation("Kata Go: a sandbox with shared files, networks, hot-plug and its end", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0_kata");
  await network.addTap("tap1_kata");
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
  for (const [name, sizeBytes] of [["image", 4 * MIB], ["container.img", 8 * MIB]] as const) {
    await Deno.create(join(directory, name)).then((file) => file.close());
    await Deno.truncate(join(directory, name), sizeBytes);
  }
  const shared = join(directory, "shared");
  await Deno.mkdir(shared);
  await using virtiofsd = await Daemon.fileSystem(join(directory, "virtiofsd.sock"), shared);
  const socket = join(directory, "clh-api.sock");
  using client = generatedClient(socket);

  const vm = await launch(talk, socket, client, network.name);
  const ping = (await client.get("vmm.ping")).json();
  assert.equal(ping.pid, vm.pid, "the process that was started is the VMM");

  // bootVM
  talk.read("create", seen(await client.put("vm.create", sandboxConfig(directory))));
  const created = talk.read("info after create", (await client.get("vm.info")).json());
  assert.equal(created.state, "Created");
  using tap = Descriptors.ofTap(network, "tap0_kata");
  const cold = talk.read(
    "add-net before boot",
    seen(await addNet(socket, netConfig("02:42:ac:11:00:02"), tap.numbers)),
  );
  assert.deepEqual(cold, { status: 204, body: "" });
  talk.read("boot", seen(await client.put("vm.boot")));
  const running = talk.read("info after boot", (await client.get("vm.info")).json());
  assert.equal(running.state, "Running");
  assert(await tapDescriptors(vm.pid, "tap0_kata") > 0);
  assert.doesNotMatch(await network.exec("ip", "address", "show", "tap0_kata"), /192\.168\.249\.1/);
  const agent = join(directory, "clh.sock"); // where the runtime will look for the agent in the guest
  assert.equal((await Deno.lstat(agent)).isSocket, true);
  await vm.stdout.waitFor("U"); // the console it writes to the sandbox's log

  // GetThreadIDs
  const vcpus = await eventually("a thread of each vCPU", async () => {
    const names = (await vm.threads()).filter((name) => /^vcpu\d+$/.test(name));
    return names.length === 1 && names;
  });
  talk.read("threads of vCPUs", vcpus);

  // A container: its root file system as a disk, another network.
  const diskConfig = {
    path: join(directory, "container.img"),
    readonly: false,
    direct: false,
    iommu: false,
    num_queues: 1,
    queue_size: 1024,
    vhost_user: false,
    backing_files: false,
    sparse: true,
    image_type: "Raw",
    rate_limiter_config: { ops: { size: 10000, refill_time: 1000, one_time_burst: 1000 } },
  };
  const disk = await client.put("vm.add-disk", diskConfig);
  talk.read("add-disk", seen(disk));
  assert.equal(disk.status, 200);
  talk.read("path of the disk", pciPath(disk.json().bdf));
  using secondTap = Descriptors.ofTap(network, "tap1_kata");
  const hot = await addNet(socket, netConfig("02:42:ac:12:00:02"), secondTap.numbers);
  talk.read("add-net after boot", seen(hot));
  assert.equal(hot.status, 200);
  talk.read("path of the network", pciPath(hot.json().bdf));

  // What it shows its user is the whole body.
  talk.read("add-disk of a file that is in use", seen(await client.put("vm.add-disk", diskConfig)));
  const absent = await client.put("vm.add-disk", { ...diskConfig, path: join(directory, "absent") });
  assert.equal(absent.status, 500);
  talk.read("add-disk of a file that is not there", absent.status);

  // ResizeVCPUs, ResizeMemory: asked for again and again with what is there already.
  talk.read("resize to the present vCPUs", seen(await client.put("vm.resize", { desired_vcpus: 1 })));
  if (!talk.original) {
    // Plugging vCPUs and memory is not there yet and says so.
    for (const wish of [{ desired_vcpus: 2 }, { desired_ram: 512 * MIB }]) {
      const answer = await client.put("vm.resize", wish);
      assert.equal(answer.status, 500);
      assert.match(answer.body, /not supported/);
    }
  }
  const info = talk.read("info with hot-plugged devices", (await client.get("vm.info")).json());
  assert.equal(info.config.memory.hotplug_size, 1024 * MIB);
  assert.equal(info.memory_actual_size, 256 * MIB); // GetTotalMemoryMB

  // The container ends: the guest may take its time to let the disk go.
  talk.read("remove-device", seen(await client.put("vm.remove-device", { id: disk.json().id })));
  talk.read(
    "remove-device of an unknown one",
    seen(await client.put("vm.remove-device", { id: "clh_drive_9" })),
  );

  // Check, each second, and terminate.
  assert.equal((await client.get("vmm.ping")).status, 200);
  const end = await client.put("vmm.shutdown");
  assert(end.status < 300);
  talk.read("shutdown", seen(end));
  talk.read("exit", await vm.waitForExit());
  await gone(socket);
  talk.read("files left", await Promise.all([socket, `${socket}.lock`, agent].map(there)));
  await virtiofsd.child.status; // it ends when its VMM hangs up
});

/** VM templates: the runtime pauses and saves a VM, and starts others from it. */
conversation("Kata Go: a template is paused, saved and goes on", { root: true }, async (talk) => {
  const { directory } = talk;
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
  const socket = join(directory, "clh-api.sock");
  using client = generatedClient(socket);
  const vm = await launch(talk, socket, client);
  const memory = join(directory, "memory");
  const config = {
    payload: { kernel: join(directory, "vmlinux") },
    cpus: { boot_vcpus: 1, max_vcpus: 1 },
    memory: {
      size: 0,
      zones: [{
        id: "template",
        size: 128 * MIB,
        file: memory,
        shared: true,
        prefault: false,
        hugepages: false,
      }],
    },
    serial: { mode: "Off" },
    console: { mode: "Off" },
  };
  await Deno.create(memory).then((file) => file.close());
  await Deno.truncate(memory, 128 * MIB);
  talk.read("create", seen(await client.put("vm.create", config)));
  talk.read("boot", seen(await client.put("vm.boot")));
  talk.read("pause", seen(await client.put("vm.pause")));
  assert.equal(talk.read("state", (await client.get("vm.info")).json().state), "Paused");
  if (!talk.original) {
    // Snapshots are not there yet: the runtime gets a reason and the VM stays as it was.
    const answer = await client.put("vm.snapshot", { destination_url: `file://${directory}` });
    assert.equal(answer.status, 500);
    assert.match(answer.body, /not supported/);
  }
  talk.read("pause again", seen(await client.put("vm.pause")));
  talk.read("resume", seen(await client.put("vm.resume")));
  assert.equal(talk.read("state", (await client.get("vm.info")).json().state), "Running");
  assert.equal((await client.put("vmm.shutdown")).status, 200);
  talk.read("exit", await vm.waitForExit());
  assert.equal(await there(memory), true);
});

Deno.test("what Go's encoders make of values", () => {
  assert.equal(goJson({ b: "a&b<c>", a: 1 }), '{"b":"a\\u0026b\\u003cc\\u003e","a":1}');
  assert.equal(goJsonOfMap({ b: [{ d: 1, c: null }], a: 1 }), '{"a":1,"b":[{"c":null,"d":1}]}');
});
