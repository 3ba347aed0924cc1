/** Disks and network devices put into a running Linux guest and taken out again. */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const MIB = 2 ** 20;
const LATE_DISK = { id: "late", bdf: "0000:00:04.0" };

linuxTest("a disk and a network device come, work and go while the guest runs", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0", { address: "192.168.74.1/24" });
  await using first = await TempDisk.pattern(MIB);
  await using second = await TempDisk.pattern(2 * MIB);
  const original = await second.sha256();
  await using guest = await LinuxGuest.boot({
    netns: network.name,
    config: { disks: [{ path: first.path, image_type: "Raw" }] },
    script: `
      await() { until eval "$1"; do usleep 50000; done; }
      wait_for disk
      await '[ -e /dev/vdb ]'
      section disk; sha256sum </dev/vdb
      dd if=/dev/vda of=/dev/vdb bs=64k conv=notrunc,fsync 2>/dev/null || echo failed
      wait_for net
      await '[ -e /sys/class/net/eth0 ]'
      ifconfig eth0 192.168.74.2 up
      wait_for gone
      await '[ ! -e /sys/block/vdb ]'
      await '[ ! -e /sys/class/net/eth0 ]'
      section left; ls -1 /sys/bus/pci/devices
      wait_for again
      await '[ -e /dev/vdb ]'
      section again; sha256sum </dev/vdb
      wait_for grown
      await '[ "$(cat /sys/block/vdb/size)" = ${3 * MIB / 512} ]'
      dd if=/dev/vda of=/dev/vdb bs=64k seek=32 conv=notrunc,fsync 2>/dev/null || echo failed
      wait_for end`,
  });
  const { api, events } = guest.vm;

  await guest.at("disk", async () => {
    const answer = await api.put("vm.add-disk", { path: second.path, image_type: "Raw", id: "late" });
    assert.deepEqual([answer.status, answer.json()], [200, LATE_DISK]);
  });

  const disk = await guest.at("net", async () => {
    assert.deepEqual(await second.read(0, MIB), await first.read(0, MIB));
    const { config, device_tree } = await api.info();
    assert.equal(config.disks.length, 2);
    assert.equal(device_tree["_virtio-pci-late"].pci_bdf, LATE_DISK.bdf);
    assert.ok("late" in (await api.get("vm.counters")).json<Record<string, unknown>>());
    // An id that is in use, a file that is locked, a device that is not there.
    const used = await api.put("vm.add-disk", { path: second.path, id: "late", image_type: "Raw" });
    assert.equal(used.status, 409, used.body);
    const locked = await api.put("vm.add-disk", { path: first.path, image_type: "Raw" });
    assert.equal(locked.status, 500, locked.body);
    assert.equal((await api.put("vm.remove-device", { id: "nobody" })).status, 404);
    assert.equal((await api.info()).config.disks.length, 2);
    const answer = await api.put("vm.add-net", { tap: "tap0", mac: "52:54:00:00:74:02", id: "net" });
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.json<{ id: string }>().id, "net");
  });
  assert.ok(sections(disk.text).disk.startsWith(`${original}  -\n`), disk.text);
  assert.doesNotMatch(disk.text, /failed/);

  await guest.at("gone", async () => {
    assert.match(await network.exec("ping", "-c", "2", "-W", "60", "192.168.74.2"), / 0% packet loss/);
    for (const id of ["late", "net"]) {
      assert.equal((await api.put("vm.remove-device", { id })).status, 204);
      await eventually(`the end of "${id}"`, async () => !(id in (await api.info()).device_tree), 120_000);
      assert.equal((await api.put("vm.remove-device", { id })).status, 404);
    }
    const removed = (await events.all()).filter(({ event }) => event === "device-removed");
    assert.deepEqual(removed.map(({ properties }) => properties!.id), ["late", "net"]);
    assert.equal(removed[0].properties!.bdf, LATE_DISK.bdf);
    const { config } = await api.info();
    assert.deepEqual([config.disks.length, config.net?.length ?? 0], [1, 0]);
  });

  let changed = "";
  const left = await guest.at("again", async () => {
    changed = await second.sha256();
    // The same id and the same slot are free again.
    const answer = await api.put("vm.add-disk", { path: second.path, image_type: "Raw", id: "late" });
    assert.deepEqual([answer.status, answer.json()], [200, LATE_DISK]);
  });
  const functions = "0000:00:00.0\n0000:00:01.0\n0000:00:02.0\n0000:00:03.0\n";
  assert.ok(sections(left.text).left.startsWith(functions), left.text);

  const again = await guest.at("grown", async () => {
    assert.equal((await api.put("vm.resize-disk", { id: "late", desired_size: 3 * MIB })).status, 204);
  });
  assert.ok(sections(again.text).again.startsWith(`${changed}  -\n`), again.text);
  const last = await guest.at("end", async () => {
    assert.deepEqual(await second.read(2 * MIB, MIB), await first.read(0, MIB));
  });
  assert.doesNotMatch(last.text, /failed/);
  assert.deepEqual((await guest.end()).exit, { code: 0, signal: null });
}, { root: true, commands: ["ip", "ping"] });
