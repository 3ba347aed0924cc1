/** Devices other processes serve: real daemons, also when they are killed and come back. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Daemon, VIRTIOFSD } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { type Buffer, DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const NET = 1;
const BLOCK = 2;
const FS = 26;
const MIB = 1 << 20;
const SECTOR = 512;
const NEEDS_QEMU = { commands: ["qemu-storage-daemon"] };
const NEEDS_VIRTIOFSD = { commands: [VIRTIOFSD], root: true };

/** Block requests: type, sector, status byte behind the data. */
const T_IN = 0;
const T_OUT = 1;
const T_FLUSH = 4;
const S_OK = 0;

function blockRequest(type: number, sector: number, data?: Buffer): Buffer[] {
  const header = new DataView(new ArrayBuffer(16));
  header.setUint32(0, type, true);
  header.setBigUint64(8, BigInt(sector), true);
  return [{ send: new Uint8Array(header.buffer) }, ...(data === undefined ? [] : [data]), { receive: 1 }];
}

/** Notifies the first queue and waits for a request's end. The original loses a notification now and then. */
async function served(driver: VirtioDriver): Promise<void> {
  await driver.notify(0);
  await eventually("a finished request", async () => {
    if (IS_REFERENCE) await driver.notify(0);
    return await driver.queues[0].poll();
  });
}

/** Sends a block request and waits for its end. @returns data and status */
async function block(driver: VirtioDriver, type: number, sector: number, data?: Buffer) {
  const { addresses } = await driver.queues[0].submit(...blockRequest(type, sector, data));
  await served(driver);
  const { puppet } = driver.memory;
  const [status] = await puppet.readMemory(addresses.at(-1)!, 1);
  const length = data !== undefined && "receive" in data ? data.receive : 0;
  return { status, data: await puppet.readMemory(addresses[1], length) };
}

guestTest(
  "a vhost-user disk: reads, writes, pause, reset, and a daemon that dies and comes back",
  async (test) => {
    await using disk = await TempDisk.pattern(2 * MIB);
    await using puppet = await Puppet.make();
    const socket = join(puppet.directory, "disk.sock");
    let daemon = await Daemon.storage(socket, disk.path, { queues: 2 });
    try {
      await using vm = await startVm({
        args: [
          ...puppet.args(),
          "--cpus",
          "boot=2",
          "--disk",
          `vhost_user=on,socket=${socket},num_queues=2,id=d`,
        ],
      });
      await puppet.started();
      const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK);
      const image = await Deno.readFile(disk.path);
      const sectors = (first: number, count: number) =>
        image.subarray(first * SECTOR, (first + count) * SECTOR);

      await test.step("features and configuration are the daemon's, as far as the front-end knows them", async () => {
        assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [128, 128]);
        assert.equal(driver.features & 0x00ff_ffffn, 0x7e46n); // SIZE_MAX … WRITE_ZEROES and MQ
        assert.deepEqual([await driver.readConfig(0), await driver.readConfig(4)], [2 * MIB / SECTOR, 0]);
        assert.equal((await driver.readConfig(32)) >>> 16, 2); // queues as configured
        assert.equal((await vm.api.info()).config.disks[0].vhost_socket, socket);
      });
      await test.step("data goes both ways", async () => {
        assert.deepEqual((await block(driver, T_IN, 8, { receive: 4096 })).data, sectors(8, 8).slice());
        const fresh = randomBytes(4096);
        assert.equal((await block(driver, T_OUT, 16, { send: fresh })).status, S_OK);
        assert.equal((await block(driver, T_FLUSH, 0)).status, S_OK);
        image.set(fresh, 16 * SECTOR);
        assert.deepEqual(await Deno.readFile(disk.path), image);
      });
      await test.step("a pause stops the rings, a resume goes on where they were", async () => {
        await vm.api.mustPut("vm.pause");
        await vm.api.mustPut("vm.resume");
        assert.deepEqual((await block(driver, T_IN, 16, { receive: 4096 })).data, sectors(16, 8).slice());
      });
      if (IS_REFERENCE) return; // it does not serve requests after that
      await test.step("requests wait for a daemon that was killed, and are served when it is back", async () => {
        await daemon.kill();
        const { addresses } = await driver.queues[0].submit(...blockRequest(T_IN, 24, { receive: SECTOR }));
        await driver.notify(0);
        assert.equal((await vm.api.get("vmm.ping")).status, 200);
        assert.equal(await driver.queues[0].poll(), undefined);
        daemon = await Daemon.storage(socket, disk.path, { queues: 2 });
        await driver.queues[0].complete();
        assert.deepEqual(await puppet.readMemory(addresses[1], SECTOR), sectors(24, 1).slice());
        assert.equal((await block(driver, T_OUT, 0, { send: sectors(24, 1) })).status, S_OK);
      });
      await test.step("a driver may reset the device, with the daemon there and without", async () => {
        await driver.restart();
        assert.equal((await block(driver, T_IN, 24, { receive: SECTOR })).status, S_OK);
        await daemon.kill();
        await driver.restart();
        const { addresses } = await driver.queues[0].submit(...blockRequest(T_IN, 24, { receive: SECTOR }));
        await driver.notify(0);
        daemon = await Daemon.storage(socket, disk.path, { queues: 2 });
        await driver.queues[0].complete();
        assert.deepEqual(await puppet.readMemory(addresses[1], SECTOR), sectors(24, 1).slice());
        assert.equal(await driver.status() & NEEDS_RESET, 0);
      });
      assert.deepEqual(await vm.stop(), { code: 0, signal: null });
    } finally {
      await daemon.kill();
    }
  },
  NEEDS_QEMU,
);

guestTest("a back-end may come later than the VM, and the API answers meanwhile", async () => {
  await using disk = await TempDisk.pattern(MIB);
  await using puppet = await Puppet.make();
  const socket = join(puppet.directory, "disk.sock");
  await using vm = await startVm();
  await vm.api.mustPut("vm.create", puppet.config({ disks: [{ vhost_user: true, vhost_socket: socket }] }));
  const boot = vm.api.mustPut("vm.boot");
  if (!IS_REFERENCE) assert.equal((await vm.api.get("vmm.ping")).status, 200);
  await using _daemon = await Daemon.storage(socket, disk.path);
  await boot;
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK);
  assert.equal(await driver.readConfig(0), MIB / SECTOR);
}, NEEDS_QEMU);

betterTest("a back-end that is no vhost-user back-end is a clear error", "waits for ever", async () => {
  await using puppet = await Puppet.make();
  const socket = join(puppet.directory, "silent.sock");
  using listener = Deno.listen({ transport: "unix", path: socket });
  const closing = listener.accept().then((connection) => connection.close());
  await using vm = await startVm();
  await vm.api.mustPut("vm.create", puppet.config({ fs: [{ tag: "t", socket }] }));
  const { status, body } = await vm.api.put("vm.boot");
  await closing;
  assert.equal(status, 500);
  assert.deepEqual(JSON.parse(body).slice(-2), [
    "Cannot create virtio-fs device",
    "The back-end closed the connection",
  ]);
  assert.equal((await vm.api.get("vmm.ping")).status, 200);
});

/** FUSE_INIT: header and body; the answer begins with its length, an error and the same unique number. */
const FUSE_INIT = 26;
const FUSE_UNIQUE = 0x1234;

function fuseInit(): Uint8Array {
  const request = new DataView(new ArrayBuffer(56));
  request.setUint32(0, 56, true);
  request.setUint32(4, FUSE_INIT, true);
  request.setBigUint64(8, BigInt(FUSE_UNIQUE), true);
  request.setUint32(40, 7, true);
  request.setUint32(44, 31, true);
  return new Uint8Array(request.buffer);
}

guestTest("a generic vhost-user device is what its daemon is", async () => {
  await using puppet = await Puppet.make();
  const socket = join(puppet.directory, "fs.sock");
  await using _daemon = await Daemon.fileSystem(socket, puppet.directory);
  await using vm = await startVm({
    args: [...puppet.args(), "--generic-vhost-user", `socket=${socket},virtio_id=fs,queue_sizes=[1024,512]`],
  });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), FS);
  assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [1024, 512]);
  const { addresses } = await driver.queues[1].submit({ send: fuseInit() }, { receive: 80 });
  await driver.notify(1);
  await eventually("the answer to FUSE_INIT", async () => {
    if (IS_REFERENCE) await driver.notify(1);
    return await driver.queues[1].poll();
  });
  const answer = new DataView((await puppet.readMemory(addresses[1], 80)).buffer);
  assert.deepEqual([answer.getInt32(4, true), Number(answer.getBigUint64(8, true))], [0, FUSE_UNIQUE]);
  assert.equal(answer.getUint32(16, true), 7); // the protocol's major version
  await vm.stop();
}, NEEDS_VIRTIOFSD);

guestTest(
  "a generic vhost-user disk has its registers where firmware reaches them, other types do not",
  async () => {
    await using puppet = await Puppet.make();
    const sockets = ["block", "fs"].map((name) => join(puppet.directory, name));
    await using _first = await Daemon.fileSystem(sockets[0], puppet.directory);
    await using _second = await Daemon.fileSystem(sockets[1], puppet.directory);
    const generic = ["block", "fs"].map((type, i) =>
      `id=${type},socket=${sockets[i]},virtio_id=${type},queue_sizes=[128,128]`
    );
    await using vm = await startVm({ args: [...puppet.args(), "--generic-vhost-user", ...generic] });
    await puppet.started();
    const { device_tree: tree } = await vm.api.info();
    const isBelow4GiB = (id: string) => tree[`_virtio-pci-${id}`].resources[0].PciBar.base < 2 ** 32;
    assert.deepEqual(["block", "fs"].map(isBelow4GiB), [true, false]);
  },
  NEEDS_VIRTIOFSD,
);

guestTest("where the VMM listens, a network back-end may connect again", async () => {
  await using puppet = await Puppet.make();
  const socket = join(puppet.directory, "net.sock");
  const offers = { features: "100000000", protocolFeatures: "9", queueCount: 2, connect: true };
  const probe = () => Daemon.probe(socket, offers);
  let daemon = await probe();
  try {
    await using vm = await startVm({
      args: [
        ...puppet.args(),
        "--net",
        `vhost_user=on,socket=${socket},vhost_mode=server,mac=52:54:00:01:02:03`,
      ],
    });
    await puppet.started();
    const driver = await VirtioDriver.start(new DriverMemory(puppet), NET);
    assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [256, 256]); // no control queue was offered
    assert.equal((await driver.readConfig(0)) >>> 0, 0x01005452);
    const served = () => daemon.messages().filter(({ name }) => name === "SET_VRING_ENABLE").length === 2;
    await eventually("enabled rings", served);
    await daemon.kill();
    daemon = await probe();
    await eventually("enabled rings after the back-end came back", served);
    await vm.stop();
    await eventually("the socket file to go", () => Deno.stat(socket).then(() => false, () => true));
  } finally {
    await daemon.kill();
  }
});

const VIRTIO_NET_HEADER = 12;
const GUEST_MAC = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const GUEST_IP = [192, 168, 72, 2];
const HOST_IP = [192, 168, 72, 1];

/** "Who has the host's address?", behind an empty virtio header. */
function arpRequest(): Uint8Array {
  const packet = new Uint8Array(VIRTIO_NET_HEADER + 60);
  const frame = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...GUEST_MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
  packet.set([...frame, ...GUEST_MAC, ...GUEST_IP, 0, 0, 0, 0, 0, 0, ...HOST_IP], VIRTIO_NET_HEADER);
  return packet;
}

guestTest(
  "a network back-end: packets both ways, queue pairs, and one that dies and comes back",
  async (test) => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0", { address: "192.168.72.1/24", queues: 2 });
    await using puppet = await Puppet.make();
    const socket = join(puppet.directory, "net.sock");
    const mac = GUEST_MAC.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    const start = () => Daemon.network(socket, "tap0", { netns: network.name, queuePairs: 2, mac });
    let daemon = await start();
    try {
      await using vm = await startVm({
        args: [...puppet.args(), "--cpus", "boot=2", "--net", `vhost_user=on,socket=${socket},num_queues=4`],
      });
      await puppet.started();
      const driver = await VirtioDriver.start(new DriverMemory(puppet), NET);
      const [receive, transmit, , , control] = driver.queues;
      const buffers = new Map<number, number>();
      const addBuffer = async () => {
        const { head, addresses } = await receive.submit({ receive: 2048 });
        buffers.set(head, addresses[0]);
        await driver.notify(0);
      };
      /** Asks for the host's address until it answers. */
      const exchange = () =>
        eventually("an answer to an ARP request", async () => {
          await transmit.submit({ send: arpRequest() });
          await driver.notify(1);
          await transmit.complete();
          for (let packet; (packet = await receive.poll()) !== undefined;) {
            const bytes = await puppet.readMemory(buffers.get(packet.head)!, packet.writtenBytes);
            await addBuffer();
            const frame = bytes.subarray(VIRTIO_NET_HEADER);
            if (frame[12] === 8 && frame[13] === 6 && frame[21] === 2) return [...frame.subarray(28, 32)];
          }
          return undefined;
        });

      await test.step("queues, features and address", async () => {
        assert.equal(driver.queues.length, 5);
        assert.equal(driver.features & 0x00ff_ffffn, 0x63_0020n); // MAC, STATUS, CTRL_VQ, GUEST_ANNOUNCE, MQ
        assert.equal((await driver.readConfig(0)) >>> 0, 0xaa005452);
        assert.equal(await driver.readConfig(4), 0x1ccbb); // the rest of it, and "link up"
        assert.equal((await vm.api.info()).config.net[0].vhost_socket, socket);
      });
      for (let i = 0; i < 8; i++) await addBuffer();
      await test.step("packets go both ways", async () => assert.deepEqual(await exchange(), HOST_IP));
      await test.step("the control queue is served, and its limits kept", async () => {
        const order = async (...payload: number[]) => {
          const parts = [payload.slice(0, 2), payload.slice(2)].map((part) => ({
            send: Uint8Array.from(part),
          }));
          const { addresses } = await control.submit(...parts, { receive: 1 });
          await driver.notify(4);
          await control.complete();
          return (await puppet.readMemory(addresses[2], 1))[0];
        };
        assert.equal(await order(4, 0, 2, 0), 0);
        assert.deepEqual([await order(4, 0, 3, 0), await order(9, 0, 0)], [1, 1]);
        assert.equal(await order(4, 0, 1, 0), 0);
        assert.deepEqual(await exchange(), HOST_IP);
      });
      await test.step("pause and resume", async () => {
        await vm.api.mustPut("vm.pause");
        await vm.api.mustPut("vm.resume");
        assert.deepEqual(await exchange(), HOST_IP);
      });
      if (IS_REFERENCE) return;
      await test.step("a daemon that was killed serves again when it is back", async () => {
        await daemon.kill();
        daemon = await start();
        assert.deepEqual(await exchange(), HOST_IP);
        assert.equal(await driver.readConfig(4), 0x1ccbb); // the link is still up
      });
      await vm.stop();
    } finally {
      await daemon.kill();
    }
  },
  { root: true, commands: ["ip"] },
);
