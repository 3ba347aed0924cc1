/**
 * Clients whose VM is a command line: the Nomad driver, flintlock and the containerd shim start one and look at it.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { GoClient, seen } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { dial, gone } from "./host.ts";

const MIB = 1 << 20;

const goClient = (socket: string) =>
  new GoClient(socket, { keepAlive: true, withBody: { "Content-Type": "application/json" } });

async function makeFiles({ directory }: Talk, ...images: string[]): Promise<(name: string) => string> {
  await Deno.writeFile(join(directory, "kernel"), pvhElf(COUNT));
  await Deno.writeFile(join(directory, "initramfs"), new Uint8Array(4096));
  for (const name of images) await Deno.writeFile(join(directory, name), new Uint8Array(2 * MIB));
  return (name) => join(directory, name);
}

async function running(client: GoClient): Promise<void> {
  await eventually("a running VM", async () => {
    const answer = await client.get("vm.info");
    return answer.status === 200 && answer.json().state === "Running";
  });
}

conversation(
  "Nomad: a task from its command line to its end",
  { root: true, commands: ["ip"] },
  async (talk) => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0");
    const path = await makeFiles(talk, "a.raw", "b.raw");
    const vm = await talk.start([
      ...[
        "--api-socket",
        `path=${path("api.sock")}`,
        "--serial",
        `file=${path("serial.log")}`,
        "--console",
        "off",
      ],
      ...[
        "--kernel",
        path("kernel"),
        "--initramfs",
        path("initramfs"),
        "--cmdline",
        "console=ttyS0 root=/dev/vda1 rw",
      ],
      ...["--disk", `path=${path("a.raw")}`, `path=${path("b.raw")},readonly=on`],
      ...["--net", "tap=tap0,mac=2e:89:a8:e4:bf:51,ip=,mask="],
      ...["--cpus", "boot=2", "--memory", "size=268435456"],
      ...["--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on"],
    ], { netns: network.name });
    await dial(path("api.sock"));
    using client = goClient(path("api.sock"));
    await running(client);
    talk.read("ping", [(await client.get("vmm.ping")).json().version]);
    talk.read("info", seen(await client.get("vm.info")));
    // Counters are numbers of 64 bits, the smallest latency before any request is the largest of them.
    const counters = await client.get("vm.counters");
    assert.match(counters.body, /"read_latency_min":18446744073709551615/);
    talk.read("counters", seen(counters));
    talk.read(
      "resize-disk",
      seen(await client.put("vm.resize-disk", { id: "_disk0", desired_size: 4 * MIB })),
    );
    talk.read(
      "resize-disk, read-only",
      seen(await client.put("vm.resize-disk", { id: "_disk1", desired_size: 4 * MIB })),
    );
    talk.read("pause", seen(await client.put("vm.pause")));
    talk.read("resume", seen(await client.put("vm.resume")));
    talk.read("shutdown", seen(await client.put("vm.shutdown")));
    talk.read("counters without a VM", seen(await client.get("vm.counters")));
    talk.read("end", seen(await client.put("vmm.shutdown")));
    talk.read("exit", await vm.waitForExit());
    assert.equal(await Deno.readTextFile(path("serial.log")), "U");
  },
);

const FLINTLOCK_NEEDS = { root: true, commands: ["ip", VIRTIOFSD] };

conversation(
  "flintlock: a microVM with a log file and values behind one flag",
  FLINTLOCK_NEEDS,
  async (talk) => {
    await using network = await NetworkNamespace.create();
    await network.addTap("fltap1");
    const path = await makeFiles(talk, "rootfs.img", "data.img", "cloudinit.img");
    await Deno.mkdir(path("shared"));
    await using _fs = await Daemon.fileSystem(path("fs.sock"), path("shared"));
    const vm = await talk.start([
      ...["--api-socket", path("cloudhypervisor.sock"), "--log-file", path("cloudhypervisor.log"), "-v"],
      ...["--serial", "tty", "--console", "off", "--kernel", path("kernel")],
      ...[
        "--cmdline",
        "console=hvc0 root=/dev/vda rw ds=nocloud",
        "--cpus",
        "boot=2",
        "--memory",
        "size=256M,shared=on",
      ],
      ...[
        "--disk",
        `path=${path("rootfs.img")}`,
        `path=${path("data.img")}`,
        `path=${path("cloudinit.img")},readonly=on`,
      ],
      ...["--fs", `tag=user,socket=${path("fs.sock")},num_queues=1,queue_size=1024`],
      ...["--net", "tap=fltap1,mac=AA:FF:00:00:00:01", "--vsock", `cid=3,socket=${path("vsock.sock")}`],
    ], { netns: network.name });
    await dial(path("cloudhypervisor.sock"));
    using client = goClient(path("cloudhypervisor.sock"));
    await running(client);
    await vm.stdout.waitFor("U");
    talk.read("info", seen(await client.get("vm.info")));
    talk.read("counters", Object.keys((await client.get("vm.counters")).json()).sort());
    talk.read("power button", seen(await client.put("vm.power-button")));
    talk.read("shutdown", seen(await client.put("vm.shutdown")));
    talk.read("state", (await client.get("vm.info")).json().state);
    talk.read("end", seen(await client.put("vmm.shutdown")));
    talk.read("exit", await vm.waitForExit());
    await gone(path("cloudhypervisor.sock"));
    assert.match(await Deno.readTextFile(path("cloudhypervisor.log")), /^cloud-hypervisor: /);
  },
);

conversation(
  "containerd: a shim that is started with all signals blocked",
  { commands: ["env", "sh"] },
  async (talk) => {
    const path = await makeFiles(talk, "rootfs.img", "layer.img");
    const vm = await talk.start(["--api-socket", path("api.sock")], {
      // The shim clears the mask because the original's vCPUs cannot be stopped with it.
      prefix: [
        "env",
        ...(talk.original ? [] : ["--block-signal"]),
        "sh",
        "-c",
        'exec "$0" "$@" </dev/null >/dev/null 2>&1',
      ],
    });
    await dial(path("api.sock"));
    using client = goClient(path("api.sock"));
    const config = {
      payload: { kernel: path("kernel"), cmdline: "console=ttyS0" },
      cpus: { boot_vcpus: 2, max_vcpus: 2 },
      memory: { size: 128 * MIB, shared: true },
      disks: [{ id: "_disk0", path: path("rootfs.img"), readonly: true }],
      serial: { mode: "File", file: path("serial.log") },
      console: { mode: "Off" },
    };
    talk.read("create", seen(await client.put("vm.create", config)));
    talk.read("boot", seen(await client.put("vm.boot")));
    // Threads with blocked signals must still stop and go on.
    for (let turn = 0; turn < 3; turn++) {
      talk.read("pause", seen(await client.put("vm.pause")));
      talk.read("resume", seen(await client.put("vm.resume")));
    }
    talk.read(
      "add-disk",
      seen(await client.put("vm.add-disk", { id: "_disk1", path: path("layer.img"), readonly: true })),
    );
    talk.read("info", seen(await client.get("vm.info")));
    talk.read("exit", await vm.stop());
    await gone(path("api.sock"));
  },
);
