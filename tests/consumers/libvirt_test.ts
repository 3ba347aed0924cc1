/**
 * libvirt, ch driver (`src/ch`): a domain from its definition to its end.
 *
 * It makes the API socket and a FIFO for events before it starts the VMM, speaks by libcurl over a connection it keeps, and
 * hands over taps by a socket of its own, reading each answer with one `recv` of 1,023 bytes.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setNonBlocking } from "@ffi/libc/fd.ts";
import { listenUnix } from "@ffi/libc/socket.ts";
import { run } from "@tests/framework/command.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { Pty } from "@tests/framework/pty.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { readPci } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { type Answer, curl, DescriptorSender, seen } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { Descriptors, there } from "./host.ts";

const MIB = 1 << 20;
/** `chSocketRecv`: a buffer of 1,024 bytes, one for the end of the text. */
const RECV_BYTES = 1023;

/** What libcurl sends for the driver, on the one connection its handle keeps. */
class Libcurl implements Disposable {
  #kept: HttpConnection | undefined;

  constructor(readonly socket: string) {}

  /** `virCHMonitorGet`. */
  get(endpoint: string): Promise<Answer> {
    return this.#perform("GET", endpoint, ["Accept: application/json", "Content-Type: application/json"]);
  }

  /** `virCHMonitorPutNoContent`: an upload of nothing. */
  putNoContent(endpoint: string): Promise<Answer> {
    return this.#perform("PUT", endpoint, ["Accept: application/json", "Content-Length: 0"]);
  }

  /** `virCHMonitorCreateVM`, `virCHMonitorSaveVM`: a custom request with fields to post. */
  put(endpoint: string, body: unknown): Promise<Answer> {
    const text = JSON.stringify(body);
    const headers = [
      "Accept: application/json",
      "Content-Type: application/json",
      `Content-Length: ${text.length}`,
    ];
    return this.#perform("PUT", endpoint, headers, text);
  }

  async #perform(method: string, endpoint: string, headers: string[], body = ""): Promise<Answer> {
    const connection = this.#kept ??= await HttpConnection.open(this.socket);
    const lines = [`${method} /api/v1/${endpoint} HTTP/1.1`, "Host: localhost", ...headers];
    await connection.send(new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n${body}`));
    return await connection.receive();
  }

  [Symbol.dispose](): void {
    this.#kept?.[Symbol.dispose]();
  }
}

/** `virCHProcessEvents`: objects by counting braces, whatever lies between them. */
class EventHandler {
  readonly names: string[] = [];
  readonly done: Promise<void>;

  constructor(fifo: Deno.FsFile) {
    this.done = this.#loop(fifo);
  }

  async #loop(fifo: Deno.FsFile): Promise<void> {
    let text = "";
    for await (const bytes of fifo.readable) {
      text += new TextDecoder().decode(bytes);
      let depth = 0;
      let start = 0;
      for (let at = 0; at < text.length; at++) {
        if (text[at] === "{" && depth++ === 0) start = at;
        if (text[at] !== "}" || --depth > 0) continue;
        this.#process(JSON.parse(text.slice(start, at + 1)));
        text = text.slice(at + 1);
        at = -1;
      }
    }
  }

  #process(event: Record<string, unknown>): void {
    assert.deepEqual(Object.keys(event), ["timestamp", "source", "event", "properties"]);
    assert.deepEqual(Object.keys(event.timestamp as object), ["secs", "nanos"]);
    this.names.push(`${event.source}:${event.event}`);
  }

  async waitFor(name: string, count = 1): Promise<void> {
    await eventually(
      () => `event ${name}; there are ${this.names.join(" ")}`,
      () => this.names.filter((other) => other === name).length >= count,
    );
  }
}

/** `virCHMonitorNew`. */
async function startMonitor(
  talk: Talk,
  netns: string,
): Promise<{ vm: Vm; socket: string; fifo: string; events: EventHandler }> {
  const { directory } = talk;
  const [socket, fifo, log, pidfile] = ["d1-socket", "d1-event-monitor-fifo", "d1.log", "d1.pid"].map((
    name,
  ) => join(directory, name));
  await run("mkfifo", "-m", "600", fifo);
  const listening = listenUnix(socket, 1);
  setNonBlocking(listening, false);
  await Deno.chmod(socket, 0o664);
  using passed = new Descriptors([listening]).inherit();
  const vm = await talk.start(["--api-socket", `fd=${listening}`, "--event-monitor", `path=${fifo}`], {
    netns,
    // virCommandSetUmask, virCommandSetPidFile, virCommandSetOutputFD
    prefix: ["sh", "-c", 'umask 002; echo $$ >"$1"; log=$0; shift; exec "$@" >>"$log" 2>&1', log, pidfile],
  });
  passed[Symbol.dispose](); // VIR_COMMAND_PASS_FD_CLOSE_PARENT
  const events = new EventHandler(await Deno.open(fifo, { read: true }));
  assert.equal(Number(await Deno.readTextFile(pidfile)), vm.pid);
  return { vm, socket, fifo, events };
}

/** `virCHMonitorBuildVMJson` of a domain with a disk and two consoles. */
function domainJson(directory: string, cmdline = "console=ttyS0"): unknown {
  return {
    console: { mode: "Pty" },
    serial: { mode: "Pty" },
    cpus: { boot_vcpus: 2, max_vcpus: 2 },
    memory: { size: 128 * MIB },
    payload: { kernel: join(directory, "vmlinux"), cmdline },
    disks: [{ path: join(directory, "disk.img") }, { path: join(directory, "seed.iso"), readonly: true }],
  };
}

async function makeFiles(directory: string): Promise<void> {
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
  await Deno.writeFile(join(directory, "disk.img"), new Uint8Array(4 * MIB));
  await Deno.writeFile(join(directory, "seed.iso"), new Uint8Array(MIB));
}

/** `chProcessAddNetworkDevices`: all over one socket; the driver's own text of a request. */
async function addNet(
  sender: DescriptorSender,
  config: unknown,
  descriptors: readonly number[],
): Promise<string> {
  const body = JSON.stringify(config);
  return await sender.send(
    "PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
      `Content-Length: ${body.length}\r\n\r\n${body}`,
    descriptors,
  );
}

/** `sscanf(response, "HTTP/1.%*d %d", …)`. */
const scannedStatus = (response: string) => Number(/^HTTP\/1\.\d+ +(\d+)/.exec(response)?.[1]);

/** All events in order. The original may lose its last one; guests' devices report in their own time. */
function readEvents(talk: Talk, { names }: EventHandler): void {
  // The original's last events get lost when the process ends before the thread that writes them has its turn.
  const last = ["vm:deleted", "vmm:shutdown"];
  if (!talk.original) assert.deepEqual(names.slice(-last.length), last);
  const compared = names.filter((name) => !/^(virtio-device:|vmm:shutdown)/.test(name));
  talk.read("events", compared.at(-1) === last[0] ? compared.slice(0, -1) : compared);
}

conversation("libvirt: the version of the emulator", {}, async (talk) => {
  const { code, stdout } = await new Deno.Command(talk.executable, { args: ["--version"], stdin: "null" })
    .output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 0);
  // virCHCapsInitCHVersionCaps: what follows the prefix, up to the line's end, parses as a version of at least 15.
  const version = /^cloud-hypervisor v(\d+)\.(\d+)(\.\d+)?/.exec(text);
  assert(version && Number(version[1]) >= 40, text); // gates at 15, 18, 22, 28, 36, 40
  talk.read("version", text.split("\n")[0]);
});

const NEEDS = { root: true, commands: ["ip", "mkfifo", "curl", "taskset"] };

conversation(
  "libvirt: a domain starts, is suspended, saved, rebooted, and destroyed",
  NEEDS,
  async (talk) => {
    const { directory } = talk;
    await Deno.mkdir(join(directory, "save"));
    await makeFiles(directory);
    await using network = await NetworkNamespace.create();
    await network.addTap("vnet0");
    await network.addTap("vnet1", { queues: 2 });
    const { vm, socket, fifo, events } = await startMonitor(talk, network.name);
    using handle = new Libcurl(socket);

    // virCHProcessStart
    const status = (label: string, answer: Answer, ...wanted: number[]) => {
      assert(wanted.includes(answer.status), `${label}: ${answer.status} ${answer.body}`);
      talk.read(label, seen(answer));
    };
    status("create", await handle.put("vm.create", domainJson(directory)), 200, 204);
    using sender = new DescriptorSender(socket, RECV_BYTES);
    using first = Descriptors.ofTap(network, "vnet0");
    using second = Descriptors.ofTap(network, "vnet1", 2);
    const nets = [
      { config: { id: "net_0", mac: "52:54:00:22:c9:42", num_queues: 2 }, fds: first.numbers },
      {
        config: { id: "net_1", mac: "52:54:00:22:c9:43", num_queues: 4, queue_size: 512, mtu: 1400 },
        fds: second.numbers,
      },
    ];
    for (const { config, fds } of nets) {
      const response = talk.read(`add-net ${config.id}`, await addNet(sender, config, fds));
      assert.equal(scannedStatus(response), 204);
    }
    status("boot", await handle.putNoContent("vm.boot"), 200, 204);
    await events.waitFor("vm:booted");

    // virCHProcessSetup: threads by name, each of which takes an affinity.
    const vcpus = await eventually("both vCPUs' threads", async () => {
      const found: { id: number; tid: string }[] = [];
      for await (const { name: tid } of Deno.readDir(`/proc/${vm.pid}/task`)) {
        const comm = (await Deno.readTextFile(`/proc/${vm.pid}/task/${tid}/comm`).catch(() => "")).trim();
        if (comm.startsWith("vcpu")) found.push({ id: parseInt(comm.slice(4)), tid });
      }
      return found.length === 2 && found;
    });
    assert.deepEqual(vcpus.map(({ id }) => id).sort(), [0, 1]);
    for (const { tid } of vcpus) await run("taskset", "-pc", "0", tid);
    const io = (await vm.threads()).filter((name) => /^(_disk|_net|_rng)/.test(name));
    talk.read(
      "I/O threads",
      io.length > 0,
      "one thread serves devices nobody asked a thread for: docs/differences.md",
    );

    // virCHProcessUpdateInfo: terminals behind the domain's consoles.
    // deno-lint-ignore no-explicit-any -- what the driver takes out of it
    const consoles = ({ config }: any): string[] => [config.console.file, config.serial.file];
    const started = await handle.get("vm.info");
    status("info", started, 200);
    const [hvc, serial] = consoles(started.json());
    assert.notEqual(hvc, serial);
    {
      await using terminal = await Pty.open(serial);
      await terminal.expect("U");
    }

    // virsh suspend, resume, save
    status("suspend", await handle.putNoContent("vm.pause"), 204);
    await events.waitFor("vm:paused");
    assert.equal(talk.read("state", (await handle.get("vm.info")).json().state), "Paused");
    const saved = await handle.put("vm.snapshot", { destination_url: `file://${join(directory, "save")}` });
    if (!talk.original) {
      // Snapshots are not there yet: `virsh save` shows the body as its error, and the domain can go on.
      assert.equal(saved.status, 500);
      assert.match(saved.body, /not supported/);
    }
    status("suspend again", await handle.putNoContent("vm.pause"), 500);
    status("resume", await handle.putNoContent("vm.resume"), 204);
    await events.waitFor("vm:resumed");
    assert.equal(talk.read("state", (await handle.get("vm.info")).json().state), "Running");

    // virsh reboot: the same process and socket; new terminals are asked for after the event.
    status("reboot", await handle.putNoContent("vm.reboot"), 204);
    await events.waitFor("vm:rebooted");
    const rebooted = await handle.get("vm.info");
    status("info after reboot", rebooted, 200);
    for (const path of consoles(rebooted.json())) assert.equal((await Deno.stat(path)).isCharDevice, true);

    // The same by the program that comes with the library it links.
    status("info by curl", await curl(socket, ["-H", "Accept: application/json"], "vm.info"), 200);
    await Deno.writeFile(join(directory, "empty"), new Uint8Array());
    const upload = ["-T", join(directory, "empty"), "-H", "Accept: application/json"];
    status("pause by curl", await curl(socket, upload, "vm.pause"), 204);

    // virsh destroy: SIGTERM, then SIGKILL; the files are the driver's to remove.
    assert.deepEqual(talk.read("exit", await vm.stop()), { code: 0, signal: null });
    await events.done;
    const known = events.names.filter((name) => !name.startsWith("virtio-device:"));
    talk.read("events", known);
    assert.equal(await there(socket), true);
    assert.equal(await there(fifo), true);
    const denied = (await Deno.stat(socket)).mode! & 0o113;
    assert.equal(denied, 0, "the socket's permissions are the driver's");
  },
);

conversation("libvirt: a domain that cannot start, and one that is shut down", NEEDS, async (talk) => {
  const { directory } = talk;
  await makeFiles(directory);
  await using network = await NetworkNamespace.create();
  await network.addTap("vnet0");
  const { vm, socket, events } = await startMonitor(talk, network.name);
  using handle = new Libcurl(socket);

  // A kernel that is not there: the body goes into the domain's log.
  const broken = { ...domainJson(directory) as object, payload: { kernel: join(directory, "missing") } };
  assert.equal((await handle.put("vm.create", broken)).status, 204);
  const boot = await handle.putNoContent("vm.boot");
  assert.equal(boot.status, 500);
  talk.read("boot without a kernel", seen(boot));
  talk.read("delete", seen(await handle.putNoContent("vm.delete")));

  // A descriptor too many: "Unexpected response from CH" with the whole response behind it.
  assert.equal((await handle.put("vm.create", domainJson(directory))).status, 204);
  using sender = new DescriptorSender(socket, RECV_BYTES);
  using tap = Descriptors.ofTap(network, "vnet0");
  const wrong = await addNet(sender, { id: "net_0", mac: "52:54:00:22:c9:42", num_queues: 3 }, tap.numbers);
  assert.equal(scannedStatus(talk.read("add-net with an odd queue", wrong)), 400);
  const two = [...tap.numbers, ...tap.numbers];
  const many = await addNet(sender, { id: "net_0", mac: "52:54:00:22:c9:42", num_queues: 2 }, two);
  assert.equal(scannedStatus(talk.read("add-net with too many descriptors", many)), 400);
  const right = await addNet(sender, { id: "net_0", mac: "52:54:00:22:c9:42", num_queues: 2 }, tap.numbers);
  assert.equal(scannedStatus(talk.read("add-net", right)), 204);

  // virsh shutdown: vm.shutdown, and the end of the process on its event.
  talk.read("shutdown before boot", seen(await handle.putNoContent("vm.shutdown")));
  talk.read("boot", seen(await handle.putNoContent("vm.boot")));
  talk.read("shutdown", seen(await handle.putNoContent("vm.shutdown")));
  await events.waitFor("vm:shutdown");
  assert.equal(talk.read("state", (await handle.get("vm.info")).json().state), "Created");
  talk.read("end", seen(await handle.putNoContent("vmm.shutdown")));
  talk.read("exit", await vm.waitForExit());
  await events.done;
  readEvents(talk, events);
});

conversation("libvirt's fork: disks come, grow and go while the domain runs", NEEDS, async (talk) => {
  const { directory } = talk;
  await makeFiles(directory);
  await using network = await NetworkNamespace.create();
  await using puppet = await Puppet.make();
  const { vm, socket, events } = await startMonitor(talk, network.name);
  using handle = new Libcurl(socket);
  const domain = {
    ...domainJson(directory) as object,
    ...puppet.config(),
    cpus: { boot_vcpus: 1, max_vcpus: 1, max_phys_bits: 40 }, // the guest finds the slots' registers at a fixed place
  };
  assert.equal((await handle.put("vm.create", domain)).status, 204);
  assert.equal((await handle.putNoContent("vm.boot")).status, 204);
  await puppet.started();
  const slots = new PciHotplug(puppet);
  await Deno.writeFile(join(directory, "vdc.img"), new Uint8Array(MIB));
  const disk = { id: "disk_2", path: join(directory, "vdc.img"), image_type: "Raw", serial: "vdc" };

  for (const turn of ["first", "second"]) { // the same id and slot again once the guest has let go
    const plugged = await handle.put("vm.add-disk", disk);
    talk.read(`add-disk, ${turn} time`, seen(plugged));
    const slot = await slots.takeAdded();
    assert.equal(plugged.json().bdf, `0000:00:${slot.toString(16).padStart(2, "0")}.0`);
    assert.equal(await readPci(puppet, slot, 0), 0x1042_1af4); // a virtio block device
    talk.read(
      "resize-disk",
      seen(await handle.put("vm.resize-disk", { id: "disk_2", desired_size: 2 * MIB })),
    );
    talk.read("info", seen(await handle.get("vm.info")));
    talk.read("remove-device", seen(await handle.put("vm.remove-device", { id: "disk_2" })));
    talk.read("remove-device again", seen(await handle.put("vm.remove-device", { id: "disk_2" })));
    assert.equal(await slots.ejectRemoved(), slot);
    await events.waitFor("vm:device-removed", turn === "first" ? 1 : 2);
    talk.read("remove-device once it is gone", seen(await handle.put("vm.remove-device", { id: "disk_2" })));
    talk.read(
      "resize-disk of one that is gone",
      (await handle.put("vm.resize-disk", { id: "disk_2", desired_size: 0 })).status,
    );
  }
  talk.read("info without the disk", seen(await handle.get("vm.info")));
  // virsh blockresize of one that is there from the start.
  talk.read("resize-disk", seen(await handle.put("vm.resize-disk", { id: "_disk0", desired_size: 8 * MIB })));
  assert.equal((await Deno.stat(join(directory, "disk.img"))).size, 8 * MIB);
  if (!talk.original) {
    // Migration, and the fork's own question for its progress, are not there: a reason, and an unknown path.
    const send = await handle.put("vm.send-migration", { destination_url: "tcp:127.0.0.1:1" });
    assert.equal(send.status, 500);
  }
  talk.read("migration progress", seen(await handle.get("vm.migration-progress")));
  talk.read("exit", await vm.stop());
  await events.done;
});
