/**
 * Kuasar (`vmm/sandbox/src/cloud_hypervisor`): a sandbox on the command line, disks by the original's own client library.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { RustClient, seen } from "./clients.ts";
import { conversation } from "./conversation.ts";
import { Descriptors, dial, gone } from "./host.ts";

const MIB = 1 << 20;
const NEEDS = { root: true, commands: ["ip", VIRTIOFSD] };

/** `to_cmdline_params`: each device's parameters in the order of its structure. */
function commandLine(directory: string, fds: readonly number[]): string[] {
  const path = (name: string) => join(directory, name);
  return [
    ...["--api-socket", path("api.sock"), "--cpus", "boot=1,topology=1:1:1:1,affinity=[0@[0]],features="],
    ...["--memory", `size=${256 * MIB},shared=on,hugepages=off`],
    ...["--kernel", path("vmlinux.bin")],
    "--cmdline",
    "console=hvc0 root=/dev/pmem0p1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 task.sharefs_type=virtiofs",
    ...["--pmem", `file=${path("kuasar.img")},discard_writes=on,id=rootfs`],
    ...["--rng", "src=/dev/urandom,id=rng"],
    ...["--vsock", `cid=3,socket=${path("task.vsock")},id=vsock`],
    ...["--console", `file=${path("task.log")},id=console`],
    ...["--fs", `tag=kuasar,socket=${path("virtiofs.sock")},id=fs`],
    ...["--net", `id=intf-0,fd=[${fds.join(",")}],mac=02:00:00:01:02:03,num_queues=${2 * fds.length}`],
    ...["--log-file", path("ch.log"), "-v"],
  ];
}

conversation("Kuasar: a sandbox with a disk that comes and goes", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("tap-0");
  await Deno.writeFile(join(directory, "vmlinux.bin"), pvhElf(COUNT));
  await Deno.writeFile(join(directory, "kuasar.img"), new Uint8Array(4 * MIB));
  await Deno.writeFile(join(directory, "layer.img"), new Uint8Array(MIB));
  await Deno.mkdir(join(directory, "shared"));
  await using _fs = await Daemon.fileSystem(join(directory, "virtiofs.sock"), join(directory, "shared"));
  using fds = Descriptors.ofTap(network, "tap-0").inherit();
  const vm = await talk.start(commandLine(directory, fds.numbers), { netns: network.name });
  const socket = join(directory, "api.sock");
  await dial(socket);
  using client = new RustClient(socket);
  await eventually("a running VM", async () => {
    const answer = await client.get("vm.info");
    return answer.status === 200 && answer.json().state === "Running";
  });
  const info = await client.get("vm.info");
  talk.read("info", seen(info));
  const tree = Object.keys(info.json().device_tree);
  for (const id of ["rootfs", "rng", "vsock", "console", "fs", "intf-0"]) assert(tree.includes(id), id);
  assert.equal((await Deno.lstat(join(directory, "task.vsock"))).isSocket, true);

  const disk = {
    path: join(directory, "layer.img"),
    readonly: false,
    direct: true,
    vhost_user: false,
    vhost_socket: null,
    id: "blk-1",
  };
  const plugged = await client.put("vm.add-disk", JSON.stringify(disk));
  talk.read("hot_attach", seen(plugged));
  assert.match(plugged.json().bdf, /^0000:00:[0-9a-f]{2}\.0$/);
  talk.read("hot_detach", seen(await client.put("vm.remove-device", JSON.stringify({ id: "blk-1" }))));
  talk.read("exit", await vm.stop());
  await gone(socket);
  await gone(join(directory, "task.vsock"));
  // All it says is in its log, nothing where the sandboxer would have to read it.
  assert.deepEqual([vm.stdout.text, vm.stderr.text], ["", ""]);
  assert.match(await Deno.readTextFile(join(directory, "ch.log")), /^cloud-hypervisor: .* INFO:/m);
});
