/**
 * Virtink (`pkg/cloudhypervisor`, `pkg/daemon`): Kubernetes pods that are VMs, by a client generated from the API document.
 *
 * It sends no Content-Type and closes each connection, chooses the devices' ids, finds the VMM by who listens on the API
 * socket, and lets it lock more memory before the VM is created.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix } from "@ffi/libc/socket.ts";
import { addressOf, check, syscall, word } from "@ffi/libc/syscall.ts";
import { run } from "@tests/framework/command.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { type Answer, GoClient, seen } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { dial, gone, powerOffOnButton } from "./host.ts";

const MIB = 1 << 20;
const GETSOCKOPT = 55n;
const SOL_SOCKET = 1n;
const SO_PEERCRED = 17n;
const UCRED_BYTES = 12;

/** `generatedClient`: `DisableKeepAlives`, no headers of its own, errors from 400 on. */
const virtinkClient = (socket: string) => new GoClient(socket, { keepAlive: false });

/** The process that listens on a socket. */
function peerOf(socket: string): number {
  const fd = connectUnix(socket);
  const credentials = new Uint8Array(UCRED_BYTES);
  const length = new Uint8Array(Uint32Array.of(UCRED_BYTES).buffer);
  const found = syscall(
    GETSOCKOPT,
    word(fd),
    SOL_SOCKET,
    SO_PEERCRED,
    addressOf(credentials),
    addressOf(length),
  );
  close(fd);
  check(found, "getsockopt");
  return new DataView(credentials.buffer).getInt32(0, true);
}

/** `buildVMConfig`, on guest memory that the test can see. */
function vmConfig(directory: string, puppet: Puppet): Record<string, unknown> {
  return {
    ...puppet.config(),
    payload: { kernel: puppet.kernel, cmdline: "console=ttyS0 root=/dev/vda rw" },
    console: { mode: "Pty" },
    serial: { mode: "Tty" },
    cpus: {
      boot_vcpus: 2,
      max_vcpus: 2,
      topology: { packages: 1, dies_per_package: 1, cores_per_die: 2, threads_per_core: 1 },
    },
    disks: [
      { id: "ubuntu", path: join(directory, "disk.raw") },
      { id: "cloud-init", path: join(directory, "cloud-init.iso"), readonly: true },
    ],
    net: [{ id: "pod", mac: "52:54:00:8a:c2:6e", tap: "tap-eth0" }],
  };
}

const NEEDS = { root: true, commands: ["ip", "prlimit"] };

async function startPod(talk: Talk, network: NetworkNamespace, socket: string) {
  for (const name of ["disk.raw", "cloud-init.iso", "hotplug.raw"]) {
    await Deno.writeFile(join(talk.directory, name), new Uint8Array(MIB));
  }
  const vm = await talk.start(["--api-socket", socket], { netns: network.name });
  await dial(socket);
  return vm;
}

conversation("Virtink: a VM runs through its power actions", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("tap-eth0");
  await using puppet = await Puppet.make();
  const socket = join(directory, "ch.sock");
  const vm = await startPod(talk, network, socket);
  using client = virtinkClient(socket);

  // For VFIO: the process behind the socket may lock all memory of the guest.
  assert.equal(peerOf(socket), vm.pid, "whoever listens is the VMM");
  const limits = async () => {
    const text = await Deno.readTextFile(`/proc/${vm.pid}/limits`);
    return /^Max locked memory +(\S+) +(\S+)/m.exec(text)!.slice(1);
  };
  const [, hard] = await limits();
  await run("prlimit", "--pid", String(peerOf(socket)), `--memlock=${hard}:${hard}`);
  assert.deepEqual(await limits(), [hard, hard]);

  /** Errors show the number's standard text, whatever the server says, and the body. */
  const must = (label: string, answer: Answer) => {
    assert(answer.status < 400, `request failed: ${answer.status}: ${answer.body}`);
    talk.read(label, seen(answer));
  };
  talk.read("info before create", seen(await client.get("vm.info")));
  must("create", await client.put("vm.create", vmConfig(directory, puppet)));
  must("boot", await client.put("vm.boot"));
  await puppet.started();
  const info = async () => (await client.get("vm.info")).json();
  talk.read("info", await info());

  // spec.powerAction
  for (const [action, state] of [["pause", "Paused"], ["resume", "Running"]]) {
    must(action, await client.put(`vm.${action}`));
    assert.equal((await info()).state, state);
  }
  must("reset", await client.put("vm.reboot"));
  await puppet.started(2);
  assert.equal((await info()).state, "Running");

  // Volumes and interfaces that come and go.
  const disk = { id: "hotplug", path: join(directory, "hotplug.raw") };
  const plugged = await client.put("vm.add-disk", disk);
  must("add-disk", plugged);
  assert.equal(plugged.json().id, "hotplug");
  talk.read("counters", Object.keys((await client.get("vm.counters")).json()).sort());
  must("remove-device", await client.put("vm.remove-device", { id: "hotplug" }));
  talk.read("remove-device of a stranger", seen(await client.put("vm.remove-device", { id: "stranger" })));
  talk.read(
    "add-disk of a file that is not there",
    (await client.put("vm.add-disk", { id: "a", path: "/absent" })).status,
  );

  if (!talk.original) {
    // Migration is not there yet: both ends get a reason.
    for (
      const [operation, body] of [
        ["send-migration", { destination_url: `unix:${join(directory, "tx.sock")}` }],
        ["receive-migration", { receiver_url: `unix:${join(directory, "rx.sock")}` }],
      ] as const
    ) {
      const answer = await client.put(`vm.${operation}`, body);
      assert.equal(answer.status, 500);
    }
    assert.equal((await info()).state, "Running");
  }

  // Shutdown by the guest, which ends the VMM and with it the pod.
  must("power button", await client.put("vm.power-button"));
  await powerOffOnButton(puppet, await info());
  talk.read("exit", await vm.waitForExit());
  await gone(socket);
});

conversation(
  "Virtink: powered off from outside, the VM can be started again or deleted",
  NEEDS,
  async (talk) => {
    const { directory } = talk;
    await using network = await NetworkNamespace.create();
    await network.addTap("tap-eth0");
    await using puppet = await Puppet.make();
    const socket = join(directory, "ch.sock");
    const vm = await startPod(talk, network, socket);
    using client = virtinkClient(socket);
    talk.read("create", seen(await client.put("vm.create", vmConfig(directory, puppet))));
    talk.read("create twice", seen(await client.put("vm.create", vmConfig(directory, puppet))));
    talk.read("power off before boot", seen(await client.put("vm.shutdown")));
    talk.read("power button before boot", seen(await client.put("vm.power-button")));
    for (const start of [1, 2]) {
      talk.read("boot", seen(await client.put("vm.boot")));
      await puppet.started(start);
      talk.read("power off", seen(await client.put("vm.shutdown")));
      talk.read("info", seen(await client.get("vm.info")));
    }
    talk.read("delete", seen(await client.put("vm.delete")));
    talk.read("delete twice", seen(await client.put("vm.delete")));
    talk.read("end", seen(await client.put("vmm.shutdown")));
    talk.read("exit", await vm.waitForExit());
  },
);
