/** A Linux guest on other processes' devices: file systems and a network, plugged, lost and found again. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { BOOT_TIMEOUT_MS, eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { IS_REFERENCE, linuxTest } from "./subject.ts";

const MIB = 2 ** 20;
const MAC = "52:54:00:aa:bb:cc";
const NEEDS = { root: true, commands: [VIRTIOFSD, "ip", "ping"] };

const SCRIPT = `
  await() { until eval "$1"; do usleep 50000; done; }
  mkdir -p /mnt/a /mnt/b
  mount -t virtiofs shared /mnt/a
  section files; cat /mnt/a/file
  dd if=/dev/urandom of=/mnt/a/new bs=64k count=4 2>/dev/null; sync
  sha256sum </mnt/a/new
  ifconfig eth0 192.168.73.2 up
  section net; cat /sys/class/net/eth0/address; ls -d /sys/class/net/eth0/queues/rx-* | wc -l
  wait_for more
  await 'mount -t virtiofs more /mnt/b 2>/dev/null'
  section more; cat /mnt/b/file
  umount /mnt/b
  wait_for gone
  await '[ ! -e /sys/bus/pci/devices/0000:00:05.0 ]'
  umount /mnt/a
  wait_for restarted
  [ -n "$better" ] && mount -t virtiofs shared /mnt/a
  section again; cat /mnt/a/file
  wait_for end`;

/** A directory with one file in it. */
async function sharedDirectory(text: string): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-share-" });
  await Deno.writeTextFile(join(directory, "file"), text);
  return directory;
}

linuxTest("vhost-user file systems and network devices serve a Linux guest", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0", { address: "192.168.73.1/24", queues: 2 });
  const directory = await Deno.makeTempDir({ prefix: "nephos-sockets-" });
  const shares = [await sharedDirectory("first\n"), await sharedDirectory("second\n")];
  const socket = (name: string) => join(directory, name);
  const startNet = () =>
    Daemon.network(socket("net"), "tap0", { netns: network.name, queuePairs: 2, mac: MAC });
  let files = await Daemon.fileSystem(socket("fs"), shares[0]);
  let net = await startNet();
  const more = await Daemon.fileSystem(socket("more"), shares[1]);
  try {
    await using guest = await LinuxGuest.boot({
      config: {
        cpus: { boot_vcpus: 2, max_vcpus: 2 },
        memory: { size: 128 * MIB, shared: true },
        fs: [{ tag: "shared", socket: socket("fs") }],
        net: [{ vhost_user: true, vhost_socket: socket("net"), num_queues: 4, id: "net0" }],
      },
      script: `better=${IS_REFERENCE ? "" : "yes"}\n${SCRIPT}`,
    });
    const { api } = guest.vm;
    const ping = () =>
      eventually(
        "an answer to a ping",
        () => network.exec("ping", "-c", "1", "-W", "20", "192.168.73.2").then(() => true, () => false),
        BOOT_TIMEOUT_MS,
      );

    const first = await guest.at("more", async () => {
      await ping();
      await api.mustPut("vm.pause");
      await api.mustPut("vm.resume");
      await ping();
      const answer = await api.mustPut("vm.add-fs", { tag: "more", socket: socket("more"), id: "more" });
      assert.deepEqual(answer.json(), { id: "more", bdf: "0000:00:05.0" });
    });
    const shown = sections(first.text);
    const sum = createHash("sha256").update(await Deno.readFile(join(shares[0], "new"))).digest("hex");
    assert.equal(shown.files, `first\n${sum}  -\n`);
    assert.ok(shown.net.startsWith(`${MAC}\n2\n`), shown.net);

    const second = await guest.at("gone", () => api.mustPut("vm.remove-device", { id: "more" }));
    assert.ok(sections(second.text).more.startsWith("second\n"), second.text);

    await guest.at("restarted", async () => {
      await more.child.status; // it ends when it is hung up on
      if (IS_REFERENCE) return;
      await net.kill();
      net = await startNet();
      await ping();
      await files.kill();
      files = await Daemon.fileSystem(socket("fs"), shares[0]);
    });
    const last = await guest.at("end", async () => {});
    if (!IS_REFERENCE) assert.ok(sections(last.text).again.startsWith("first\n"), last.text);
    const { code, exit } = await guest.end();
    assert.deepEqual([code, exit.code], [0, 0]);
  } finally {
    for (const daemon of [files, net, more]) await daemon.kill();
    for (const path of [directory, ...shares]) await Deno.remove(path, { recursive: true });
  }
}, NEEDS);
