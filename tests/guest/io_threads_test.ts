/** Queues and the threads that serve them: CPUs, data on all queues, resets, pauses, removal, a disk that is never idle. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { patternSector, TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { HOTPLUG_CPUS, PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { type Buffer, DriverMemory, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const NET = 1;
const BLOCK = 2;
const MIB = 1 << 20;
const SECTOR = 512;
const T_IN = 0;
const T_OUT = 1;
const S_OK = 0;
const TWO_HOTPLUG_CPUS = HOTPLUG_CPUS.replace("boot=1", "boot=2");
const CPUS = navigator.hardwareConcurrency;
/** All but VIRTIO_F_EVENT_IDX: with flags a puppet may always notify. */
const FEATURES = ~(1n << 29n);

function blockRequest(type: number, sector: number, data: Buffer): Buffer[] {
  const header = new DataView(new ArrayBuffer(16));
  header.setUint32(0, type, true);
  header.setBigUint64(8, BigInt(sector), true);
  return [{ send: new Uint8Array(header.buffer) }, data, { receive: 1 }];
}

/** Has one queue carry out a request. @returns status, and the data of a read */
async function block(driver: VirtioDriver, queue: number, type: number, sector: number, data: Buffer) {
  const { addresses } = await driver.queues[queue].submit(...blockRequest(type, sector, data));
  await driver.notify(queue);
  await eventually(`an answer on queue ${queue}`, async () => {
    if (IS_REFERENCE) await driver.notify(queue); // it loses a notification now and then
    return await driver.queues[queue].poll();
  });
  const { puppet } = driver.memory;
  const [status] = await puppet.readMemory(addresses[2], 1);
  return { status, data: await puppet.readMemory(addresses[1], "receive" in data ? data.receive : 0) };
}

/** Reads a sector of `TempDisk.pattern` through every queue, and writes one that every other queue reads. */
async function checkQueues(driver: VirtioDriver): Promise<void> {
  for (const queue of driver.queues.keys()) {
    const read = await block(driver, queue, T_IN, 8 + queue, { receive: SECTOR });
    assert.deepEqual(read, { status: S_OK, data: Uint8Array.from(patternSector(8 + queue)) });
    const fresh = randomBytes(SECTOR);
    assert.equal((await block(driver, queue, T_OUT, 1, { send: fresh })).status, S_OK);
    for (const other of driver.queues.keys()) {
      const { data } = await block(driver, other, T_IN, 1, { receive: SECTOR });
      assert.deepEqual(data, Uint8Array.from(fresh));
    }
  }
}

/** CPUs each thread of a process may run on, by thread name. */
async function affinities(vm: Vm): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const { name } of Deno.readDir(`/proc/${vm.pid}/task`)) {
    const text = await Deno.readTextFile(`/proc/${vm.pid}/task/${name}/status`).catch(() => "");
    const field = (key: string) => new RegExp(`^${key}:\\s+(.*)$`, "m").exec(text)?.[1] ?? "";
    found.set(field("Name"), field("Cpus_allowed_list"));
  }
  return found;
}

const bound = (vm: Vm, threads: readonly string[]) =>
  eventually(`threads ${threads.join(", ")}`, async () => {
    const found = await affinities(vm);
    return threads.every((name) => found.has(name)) ? threads.map((name) => found.get(name)) : undefined;
  });

guestTest(
  `test_virtio_queue_affinity${CPUS < 2 ? " (one CPU only)" : ""}`,
  async (test) => {
    await using disk = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    const last = Math.min(CPUS, 2) - 1;
    await using vm = await startVm({
      args: [
        ...puppet.args(),
        ...["--cpus", "boot=2", "--disk"],
        `path=${disk.path},image_type=raw,num_queues=2,queue_affinity=[0@[0],1@[${last}]],id=_disk0`,
      ],
    });
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const driver = await VirtioDriver.start(memory, BLOCK, FEATURES);
    await test.step("each queue's thread is bound to its CPUs", async () => {
      assert.deepEqual(await bound(vm, ["_disk0_q0", "_disk0_q1"]), ["0", String(last)]);
    });
    await test.step("data goes through both queues", () => checkQueues(driver));
    await test.step("counters are those of both queues together", async () => {
      const counters = JSON.parse((await vm.api.get("vm.counters")).body)._disk0;
      assert.deepEqual([counters.read_ops, counters.write_ops], [6, 2]);
      assert.deepEqual([counters.read_bytes, counters.write_bytes], [6 * SECTOR, 2 * SECTOR]);
      assert.ok(counters.read_latency_min <= counters.read_latency_avg);
      assert.ok(counters.read_latency_avg <= counters.read_latency_max);
    });
    await test.step("pause and resume", async () => {
      await vm.api.mustPut("vm.pause");
      await vm.api.mustPut("vm.resume");
      await checkQueues(driver);
    });
    await test.step("the driver resets the device and starts it again", async () => {
      for (let i = 0; i < 3; i++) {
        await driver.restart(FEATURES);
        await checkQueues(driver);
      }
    });
    await test.step("the device grows on both queues", async () => {
      await vm.api.mustPut("vm.resize-disk", { id: "_disk0", desired_size: 2 * MIB });
      assert.equal(await driver.readConfig(0), 2 * MIB / SECTOR);
      for (const queue of [0, 1]) {
        const { status } = await block(driver, queue, T_IN, 2 * MIB / SECTOR - 1, { receive: SECTOR });
        assert.equal(status, S_OK);
      }
    });
    await test.step("a reboot brings the same threads", async () => {
      await vm.api.mustPut("vm.reboot");
      await puppet.started(2);
      const again = await VirtioDriver.start(memory, BLOCK, FEATURES);
      assert.deepEqual(await bound(vm, ["_disk0_q0", "_disk0_q1"]), ["0", String(last)]);
      await checkQueues(again);
    });
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  },
);

guestTest("a queue bound to a CPU the host has not is served all the same, and said in the log", async () => {
  await using disk = await TempDisk.pattern(MIB);
  await using puppet = await Puppet.make();
  const nowhere = 1000;
  await using vm = await startVm({
    args: [
      ...puppet.args(),
      "--disk",
      `path=${disk.path},image_type=raw,queue_affinity=[0@[${nowhere}]],id=_disk0`,
    ],
  });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK, FEATURES);
  await checkQueues(driver);
  await eventually("words in the log", () => /Failed scheduling the virtqueue thread/.test(vm.stderr.text));
});

guestTest("a disk with bound queues comes and goes, its threads with it", async () => {
  await using disk = await TempDisk.pattern(MIB);
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", TWO_HOTPLUG_CPUS] });
  await puppet.started();
  const before = await vm.threads();
  await vm.api.mustPut("vm.add-disk", {
    id: "d",
    path: disk.path,
    image_type: "Raw",
    num_queues: 2,
    queue_affinity: [{ queue_index: 0, host_cpus: [0] }, { queue_index: 1, host_cpus: [0] }],
  });
  const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK, FEATURES);
  await checkQueues(driver);
  assert.deepEqual(await bound(vm, ["d_q0", "d_q1"]), ["0", "0"]);
  await vm.api.mustPut("vm.remove-device", { id: "d" });
  assert.equal(await new PciHotplug(puppet).ejectRemoved(), driver.slot);
  await eventually("the end of the threads", async () => {
    const now = await vm.threads();
    return !now.some((name) => name.startsWith("d_q")) && now.length <= before.length;
  });
});

betterTest(
  "two queues of a qcow2 image share a thread, and what one writes the other reads",
  "serves such queues by two threads",
  async () => {
    await using disk = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    const image = join(disk.directory, "disk.qcow2");
    await new Deno.Command("qemu-img", { args: ["convert", "-O", "qcow2", disk.path, image] }).output();
    await using vm = await startVm({
      args: [
        ...puppet.args(),
        ...["--cpus", "boot=2", "--disk"],
        `path=${image},image_type=qcow2,num_queues=2,queue_affinity=[0@[0],1@[0]],id=q`,
      ],
    });
    await puppet.started();
    const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK, FEATURES);
    await checkQueues(driver);
    const names = (await vm.threads()).filter((name) => name.startsWith("q_"));
    assert.deepEqual(names, ["q_q0"]);
    await vm.stop();
    const { code } = await new Deno.Command("qemu-img", { args: ["check", image] }).output();
    assert.equal(code, 0);
  },
  { commands: ["qemu-img"] },
);

betterTest(
  "two queue pairs of a network device are served by two threads",
  "has no say in it",
  async (test) => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0", { address: "192.168.249.1/24", queues: 2 });
    await using puppet = await Puppet.make();
    await using vm = await startVm({
      args: [...puppet.args(), "--cpus", "boot=2", "--net", "tap=tap0,num_queues=4,id=_net1"],
      netns: network.name,
      env: { NEPHOS_SPARE_IO_THREADS: "1" },
    });
    await puppet.started();
    const driver = await VirtioDriver.start(new DriverMemory(puppet), NET, FEATURES);
    await bound(vm, ["_net1_qp1"]);
    const received = new Map<number, Map<number, number>>([[0, new Map()], [1, new Map()]]);
    const addBuffer = async (pair: number) => {
      const { head, addresses } = await driver.queues[2 * pair].submit({ receive: 2048 });
      received.get(pair)!.set(head, addresses[0]);
      await driver.notify(2 * pair);
    };
    const setPairs = async (pairs: number) => {
      const { addresses } = await driver.queues[4].submit(
        { send: Uint8Array.of(4, 0) },
        { send: Uint8Array.of(pairs, 0) },
        { receive: 1 },
      );
      await driver.notify(4);
      await driver.queues[4].complete();
      return (await puppet.readMemory(addresses[2], 1))[0];
    };
    /** Asks for the host's address through one pair until an answer comes through any. */
    const exchange = (pair: number) =>
      eventually(`an answer to what pair ${pair} sent`, async () => {
        await driver.queues[2 * pair + 1].submit({ send: arpRequest() });
        await driver.notify(2 * pair + 1);
        await driver.queues[2 * pair + 1].complete();
        for (const from of [0, 1]) {
          for (let packet; (packet = await driver.queues[2 * from].poll()) !== undefined;) {
            const at = received.get(from)!.get(packet.head)!;
            const frame = (await puppet.readMemory(at, packet.writtenBytes)).subarray(VIRTIO_NET_HEADER);
            await addBuffer(from);
            if (frame[12] === 8 && frame[13] === 6 && frame[21] === 2) return [...frame.subarray(28, 32)];
          }
        }
        return undefined;
      });
    for (const pair of [0, 1]) for (let i = 0; i < 8; i++) await addBuffer(pair);
    await test.step("the driver uses both pairs", async () => assert.equal(await setPairs(2), 0));
    await test.step("packets go out by both, and answers come", async () => {
      assert.deepEqual([await exchange(0), await exchange(1)], [HOST_IP, HOST_IP]);
    });
    await test.step("counters are those of both pairs together", async () => {
      const { tx_frames: sent } = JSON.parse((await vm.api.get("vm.counters")).body)._net1;
      await exchange(1);
      assert.ok(JSON.parse((await vm.api.get("vm.counters")).body)._net1.tx_frames > sent);
    });
    await test.step("pause and resume", async () => {
      await vm.api.mustPut("vm.pause");
      await vm.api.mustPut("vm.resume");
      assert.deepEqual([await exchange(1), await exchange(0)], [HOST_IP, HOST_IP]);
    });
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  },
  { root: true, commands: ["ip"] },
);

guestTest("a disk that is never idle delays neither the serial console nor the API", async () => {
  await using disk = await TempDisk.empty(64 * MIB);
  await using puppet = await Puppet.make(128 * MIB);
  const serial = join(disk.directory, "serial");
  await using vm = await startVm({
    args: [...puppet.args(`file=${serial}`), "--disk", `path=${disk.path},image_type=raw,id=_disk0`],
  });
  await puppet.started();
  const memory = new DriverMemory(puppet);
  const driver = await VirtioDriver.start(memory, BLOCK, FEATURES, QUEUE_SIZE);
  const stress = await Stress.begin(memory, driver);
  const text = "the serial console while the disk is busy\n".repeat(40);
  const print = puppet.run(...[...text].map((char) => ["outb", COM1, char.charCodeAt(0)] as const));
  let isPrinted = false;
  void print.then(() => isPrinted = true);
  let answers = 0;
  await eventually("the whole text in the console's file", async () => {
    assert.equal((await vm.api.get("vmm.ping")).status, 200);
    assert.equal((await vm.api.get("vm.info")).status, 200);
    answers++;
    await stress.keepGoing();
    return isPrinted && (await Deno.readTextFile(serial)).includes(text);
  });
  // Everything above came while the disk had work: the queue has never been empty.
  assert.ok(answers > 0);
  assert.equal(stress.ranDry, false);
});

/** Keeps a queue full of long reads, rings and all written from outside: the guest has its hands free. */
class Stress {
  ranDry = false;
  #offered = 0;

  private constructor(private readonly memory: DriverMemory, private readonly driver: VirtioDriver) {}

  static async begin(memory: DriverMemory, driver: VirtioDriver): Promise<Stress> {
    const { puppet } = memory;
    const [queue] = driver.queues;
    const header = memory.take(16);
    await puppet.writeMemory(header, new Uint8Array(16)); // a read from sector 0 on
    const data = memory.take(PIECE_BYTES);
    const status = memory.take(16);
    const table = memory.take(16 * (PIECES + 2));
    const view = new DataView(new ArrayBuffer(16 * (PIECES + 2)));
    const describe = (into: DataView, index: number, at: number, length: number, flags: number) => {
      into.setBigUint64(16 * index, BigInt(at), true);
      into.setUint32(16 * index + 8, length, true);
      into.setUint16(16 * index + 12, flags, true);
      into.setUint16(16 * index + 14, index + 1, true);
    };
    describe(view, 0, header, 16, DESC_NEXT);
    for (let i = 1; i <= PIECES; i++) describe(view, i, data, PIECE_BYTES, DESC_NEXT | DESC_WRITE);
    describe(view, PIECES + 1, status, 1, DESC_WRITE);
    await puppet.writeMemory(table, new Uint8Array(view.buffer));
    const heads = new DataView(new ArrayBuffer(16 * queue.size));
    const ring = new Uint16Array(queue.size);
    for (let i = 0; i < queue.size; i++) {
      describe(heads, i, table, view.byteLength, DESC_INDIRECT);
      ring[i] = i;
    }
    await puppet.writeMemory(queue.descriptors, new Uint8Array(heads.buffer));
    await puppet.writeMemory(queue.available + 4, new Uint8Array(ring.buffer));
    const stress = new Stress(memory, driver);
    await stress.#offer(queue.size - 1);
    await driver.notify(0);
    return stress;
  }

  /** Offers again what was served. */
  async keepGoing(): Promise<void> {
    const [queue] = this.driver.queues;
    const bytes = await this.memory.puppet.readMemory(queue.used + 2, 2);
    const served = new DataView(bytes.buffer).getUint16(0, true);
    const left = (this.#offered - served) & 0xffff;
    if (left === 0) this.ranDry = true;
    await this.#offer((served + queue.size - 1) & 0xffff);
  }

  async #offer(index: number): Promise<void> {
    this.#offered = index;
    const [queue] = this.driver.queues;
    await this.memory.puppet.writeMemory(queue.available + 2, new Uint8Array(Uint16Array.of(index).buffer));
  }
}

const COM1 = 0x3f8;
const QUEUE_SIZE = 128;
/** One request reads 32 MiB, piece by piece into the same place. */
const PIECES = 512;
const PIECE_BYTES = 64 << 10;
const DESC_NEXT = 1;
const DESC_WRITE = 2;
const DESC_INDIRECT = 4;

const VIRTIO_NET_HEADER = 12;
const HOST_IP = [192, 168, 249, 1];

/** A broadcast question for `HOST_IP`, behind the device's header. */
function arpRequest(): Uint8Array {
  const mac = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
  const frame = [...Array(6).fill(0xff), ...mac, 8, 6];
  const arp = [0, 1, 8, 0, 6, 4, 0, 1, ...mac, 192, 168, 249, 2, ...Array(6).fill(0), ...HOST_IP];
  return Uint8Array.from([...Array(VIRTIO_NET_HEADER).fill(0), ...frame, ...arp, ...Array(18).fill(0)]);
}
