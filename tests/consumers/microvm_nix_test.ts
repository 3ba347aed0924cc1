/**
 * microvm.nix (`lib/runners/cloud-hypervisor.nix`): a NixOS guest as a systemd service, all of it on the command line.
 *
 * Taps come as inherited descriptors, shares by virtiofsd; the balloon is set by `ch-remote`, the end asked for by curl.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { curl, seen } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { Descriptors, dial, gone, powerOffOnButton, tapDescriptors } from "./host.ts";

const MIB = 1 << 20;
const NEEDS = { root: true, commands: ["ip", "curl", VIRTIOFSD] };

/** `command` of the runner; members of each value in the order of their names, as Nix maps them. */
function command(directory: string, kernel: string, fds: readonly number[]): string[] {
  return [
    ...["--cpus", "boot=2", "--watchdog"],
    ...["--kernel", kernel, "--initramfs", join(directory, "initrd")],
    ...[
      "--cmdline",
      "earlyprintk=ttyS0 console=ttyS0 reboot=t panic=-1 root=fstab loglevel=4 init=/nix/store/x/init",
    ],
    ...["--seccomp", "true", "--memory", "mergeable=off,shared=on,size=256M"],
    ...["--platform", "oem_strings=[io.systemd.credential:vmm.notify_socket=vsock-stream:2:8888,io.b]"],
    ...[
      "--console",
      "null",
      "--serial",
      "tty",
      "--vsock",
      `cid=42,socket=${join(directory, "notify.vsock")}`,
    ],
    ...["--balloon", "deflate_on_oom=on,free_page_reporting=on,size=0M"],
    "--disk",
    `num_queues=2,path=${join(directory, "store.erofs")},readonly=on`,
    `direct=off,image_type=raw,num_queues=2,path=${join(directory, "var.img")},readonly=off,serial=var`,
    ...["--fs", `socket=${join(directory, "ro-store.sock")},tag=ro-store`],
    ...["--api-socket", join(directory, "vm.sock")],
    ...["--net", `fd=[${fds.join(",")}],mac=02:00:00:00:00:01,num_queues=4`],
  ];
}

/** `ch-remote` as the service's scripts call it. */
async function remote(talk: Talk, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(talk.remote, { args, stdin: "null" }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  // The original logs a dump of its error before the chain.
  const chain = text(stderr).split("\n").filter((line) => !line.includes("Fatal error"));
  return { code, stdout: text(stdout), chain };
}

conversation("microvm.nix: a service from start to power off", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("vm-net", { queues: 2 });
  await using puppet = await Puppet.make();
  await Deno.writeFile(join(directory, "initrd"), new Uint8Array(4096));
  await Deno.writeFile(join(directory, "store.erofs"), new Uint8Array(2 * MIB));
  await Deno.writeFile(join(directory, "var.img"), new Uint8Array(2 * MIB));
  await Deno.mkdir(join(directory, "store"));
  await using virtiofsd = await Daemon.fileSystem(join(directory, "ro-store.sock"), join(directory, "store"));
  const socket = join(directory, "vm.sock");

  using fds = Descriptors.ofTap(network, "vm-net", 2).inherit();
  const vm = await talk.start(command(directory, puppet.kernel, fds.numbers), { netns: network.name });
  await vm.stdout.waitFor("U"); // the guest's console is the service's log
  await dial(socket);
  assert.equal(await tapDescriptors(vm.pid, "vm-net") >= 2, true);
  await puppet.attach(vm.pid);
  const info = await curl(socket, [], "vm.info");
  const { config, state } = talk.read("info", info.json());
  assert.equal(state, "Running");
  assert.deepEqual(config.platform.oem_strings, [
    "io.systemd.credential:vmm.notify_socket=vsock-stream:2:8888",
    "io.b",
  ]);
  assert.equal(config.disks[1].serial, "var");

  // setBalloonScript
  talk.read("balloon", await remote(talk, "--api-socket", socket, "resize", "--balloon", "64M"));
  assert.equal((await curl(socket, [], "vm.info")).json().config.balloon.size, 64 * MIB);
  talk.read(
    "balloon of nonsense",
    (await remote(talk, "--api-socket", socket, "resize", "--balloon", "M")).code,
  );
  talk.read("unknown endpoint", seen(await curl(socket, ["-X", "PUT"], "vm.power-buttons")));

  // shutdownCommand: curl, then waitpid.
  talk.read("power button", seen(await curl(socket, ["-X", "PUT"], "vm.power-button")));
  await powerOffOnButton(puppet, info.json());
  talk.read("exit", await vm.waitForExit());
  await gone(socket);
  await virtiofsd.child.status;
});

conversation("microvm.nix: virtio-mem and a missing share", { root: true }, async (talk) => {
  const { directory } = talk;
  await using puppet = await Puppet.make();
  await Deno.writeFile(join(directory, "initrd"), new Uint8Array(4096));
  const base = ["--kernel", puppet.kernel, "--console", "null", "--serial", "null"];
  if (!talk.original) {
    // hotplugMem: virtio-mem is not there yet, so nothing starts that would lack its memory.
    const memory =
      "hotplug_method=virtio-mem,hotplug_size=512M,hotplugged_size=0M,mergeable=on,shared=off,size=256M";
    const vm = await talk.start([...base, "--memory", memory]);
    assert.equal((await vm.waitForExit()).code, 1);
    assert.match(vm.stderr.text, /Not supported by this version yet: virtio-mem/);
  }
  // Shares need shared memory.
  const fs = ["--memory", "mergeable=on,shared=off,size=256M", "--fs", "socket=/absent.sock,tag=ro-store"];
  const refused = await talk.start([...base, ...fs]);
  talk.read("exit", await refused.waitForExit());
  talk.read("chain", refused.stderr.text.split("\n").filter((line) => /^ +\d+: /.test(line)));
});
