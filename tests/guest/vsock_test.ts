/** The socket device from the guest's side and the host's: every packet, every stream, every file. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { HOTPLUG_CPUS, PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory } from "@tests/framework/virtio_driver.ts";
import { Vm } from "@tests/framework/vm.ts";
import {
  HostService,
  HostStream,
  NO_RECEIVE,
  NO_SEND,
  OP,
  type ReceivedPacket,
  VsockDriver,
} from "@tests/framework/vsock_driver.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const CID = 42;
const V1_AND_IN_ORDER = 1n << 32n | 1n << 35n;
const FIRST_PROGRAM_PORT = 0x4000_0000;
const CREDIT_BYTES = 64 << 10;
const MAX_CONNECTIONS = 1023;
/** Connections opened at a time. */
const BATCH = 16;

interface Setup extends AsyncDisposable {
  readonly vm: Vm;
  readonly puppet: Puppet;
  readonly vsock: VsockDriver;
  readonly socket: string;
}

/** A puppet with a started socket device. */
async function setUp(ramBytes?: number): Promise<Setup> {
  const puppet = await Puppet.make(ramBytes);
  const vm = await startVm({
    args: [...puppet.args(), "--vsock", `cid=${CID},socket={dir}/v`],
    events: true,
  });
  await puppet.started();
  const vsock = await VsockDriver.start(puppet, { insists: IS_REFERENCE });
  return {
    vm,
    puppet,
    vsock,
    socket: join(vm.directory, "v"),
    async [Symbol.asyncDispose]() {
      await vm[Symbol.asyncDispose]();
      await puppet[Symbol.asyncDispose]();
    },
  };
}

const exists = (path: string) => Deno.lstat(path).then(() => true, () => false);
const brief = ({ op, guestPort, hostPort, text }: ReceivedPacket) => [op, guestPort, hostPort, text];

/** The guest connects to a service of the host. */
async function toHost(vsock: VsockDriver, socket: string, guestPort: number, hostPort: number) {
  using service = new HostService(socket, hostPort);
  const accepted = service.accept();
  const answer = await vsock.connect(guestPort, hostPort);
  assert.deepEqual(brief(answer), [OP.RESPONSE, guestPort, hostPort, ""]);
  return await accepted;
}

let nextGuestPort = 16;

/** A program connects to a fresh port of the guest, which accepts; again when that took the test longer than the device waits. */
async function toGuest(vsock: VsockDriver, socket: string) {
  return await eventually("an accepted program", async () => {
    const guestPort = nextGuestPort++;
    const stream = await HostStream.connect(socket);
    await stream.write(`CONNECT ${guestPort}\n`);
    const request = await vsock.receive(guestPort);
    const { hostPort } = request;
    assert.deepEqual(brief(request), [OP.REQUEST, guestPort, hostPort, ""]);
    await vsock.send({ op: OP.RESPONSE, guestPort, hostPort });
    const line = await stream.line();
    if (line === `OK ${hostPort}\n`) return { stream, guestPort, hostPort };
    assert.equal(line, "");
    stream.close();
    return undefined;
  });
}

guestTest("sockets: both ways, half-close, credit, refusals, pause, reset", async (test) => {
  await using setup = await setUp();
  const { vm, vsock, socket } = setup;

  await test.step("the device", async () => {
    const { driver } = vsock;
    assert.equal(driver.features, V1_AND_IN_ORDER);
    assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [256, 256, 256]);
    assert.deepEqual([vsock.cid, await driver.readConfig(4)], [CID, 0]);
    const { config, device_tree } = await vm.api.info();
    assert.deepEqual(config.vsock, { id: "_vsock0", pci_segment: 0, cid: CID, socket });
    assert.equal(device_tree["_virtio-pci-_vsock0"].pci_bdf, "0000:00:02.0");
    assert.equal((await vm.api.get("vm.counters")).json<Record<string, unknown>>()["_vsock0"], undefined);
    assert.equal((await Deno.lstat(socket)).mode! & 0o777, 0o700);
    await vm.events.waitFor("virtio-device/activated");
  });
  await test.step("the guest connects, and bytes go both ways", async () => {
    using host = await toHost(vsock, socket, 1001, 52);
    await vsock.send({ op: OP.RW, guestPort: 1001, hostPort: 52, data: "question" });
    assert.equal(await host.read(8), "question");
    await host.write("answer");
    const packet = await vsock.receive(1001);
    assert.deepEqual(brief(packet), [OP.RW, 1001, 52, "answer"]);
    assert.deepEqual([packet.srcCid, packet.dstCid, packet.type], [2, CID, 1]);
    assert.deepEqual([packet.bufAlloc, packet.fwdCnt], [CREDIT_BYTES, 8]);
    host.close();
    const shutdown = await vsock.receive(1001);
    // a program that leaves may first be seen to have ended sending
    const last = shutdown.flags === NO_SEND ? await vsock.receive(1001) : shutdown;
    assert.deepEqual([last.op, last.flags], [OP.SHUTDOWN, NO_RECEIVE | NO_SEND]);
    await vsock.send({ op: OP.RST, guestPort: 1001, hostPort: 52 });
  });
  await test.step("a program connects, and what it sent at once follows", async () => {
    const { stream, guestPort, hostPort } = await toGuest(vsock, socket);
    using program = stream;
    assert.ok(hostPort >= FIRST_PROGRAM_PORT, `${hostPort}`);
    await program.write("hello");
    assert.deepEqual(brief(await vsock.receive(guestPort)), [OP.RW, guestPort, hostPort, "hello"]);
    await vsock.send({ op: OP.RW, guestPort, hostPort, data: "world" });
    assert.equal(await program.read(5), "world");
    await vsock.send({ op: OP.RST, guestPort, hostPort });
    assert.equal(await program.end(), "end");
  });
  await test.step("half-close: the host ends, the guest goes on", async () => {
    using host = await toHost(vsock, socket, 1002, 52);
    await host.write("all");
    await host.endSending();
    assert.deepEqual(brief(await vsock.receive(1002)), [OP.RW, 1002, 52, "all"]);
    const end = await vsock.receive(1002);
    assert.deepEqual([end.op, end.flags], [OP.SHUTDOWN, NO_SEND]);
    await vsock.send({ op: OP.RW, guestPort: 1002, hostPort: 52, data: "more" });
    assert.equal(await host.read(4), "more");
    await vsock.send({ op: OP.SHUTDOWN, guestPort: 1002, hostPort: 52, flags: NO_RECEIVE | NO_SEND });
    assert.equal(await host.end(), "end");
    assert.equal((await vsock.receive(1002)).op, OP.RST);
  });
  await test.step("half-close: the guest ends, the host goes on", async () => {
    using host = await toHost(vsock, socket, 1003, 52);
    await vsock.send(
      { op: OP.RW, guestPort: 1003, hostPort: 52, data: "all" },
      { op: OP.SHUTDOWN, guestPort: 1003, hostPort: 52, flags: NO_SEND },
    );
    assert.equal(await host.read(3), "all");
    assert.equal(await host.end(), "end");
    await host.write("more");
    assert.deepEqual(brief(await vsock.receive(1003)), [OP.RW, 1003, 52, "more"]);
    await vsock.send({ op: OP.RST, guestPort: 1003, hostPort: 52 });
  });
  await test.step("the guest gets what it has room for, and tells of more", async () => {
    using host = await toHost(vsock, socket, 1004, 52);
    await vsock.send({ op: OP.CREDIT_UPDATE, guestPort: 1004, hostPort: 52, bufAlloc: 10 });
    await host.write("0123456789abcdef");
    assert.equal((await vsock.receive(1004)).text, "0123456789");
    await vsock.send({ op: OP.CREDIT_UPDATE, guestPort: 1004, hostPort: 52, bufAlloc: 10, fwdCnt: 10 });
    const rest = await vsock.receive(1004);
    assert.equal((rest.op === OP.CREDIT_REQUEST ? await vsock.receive(1004) : rest).text, "abcdef");
    await vsock.send({ op: OP.CREDIT_REQUEST, guestPort: 1004, hostPort: 52 });
    const update = await vsock.receive(1004);
    assert.deepEqual([update.op, update.bufAlloc, update.fwdCnt], [OP.CREDIT_UPDATE, CREDIT_BYTES, 0]);
    await vsock.send({ op: OP.RST, guestPort: 1004, hostPort: 52 });
  });
  await test.step("resets: a port nobody serves, an unknown connection, another kind of socket", async () => {
    assert.deepEqual(brief(await vsock.connect(1005, 5)), [OP.RST, 1005, 5, ""]);
    await vsock.send({ op: OP.RW, guestPort: 1006, hostPort: 6, data: "lost" });
    assert.deepEqual(brief(await vsock.receive(1006)), [OP.RST, 1006, 6, ""]);
    assert.deepEqual(brief(await vsock.connect(1007, 7, { type: 2 })), [OP.RST, 1007, 7, ""]);
  });
  await test.step("a guest that refuses, and lines that are no command, end the stream", async () => {
    using refused = await HostStream.connect(socket);
    await refused.write("connect 1007\n");
    const { hostPort } = await vsock.receive(1007);
    await vsock.send({ op: OP.RST, guestPort: 1007, hostPort });
    assert.equal(await refused.end(), "end");
    for (const line of ["HELLO 17\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n"]) {
      using stream = await HostStream.connect(socket);
      await stream.write(line);
      assert.equal(await stream.end(), "end", line);
    }
  });
  await test.step("streams outlive a pause", async () => {
    using host = await toHost(vsock, socket, 1008, 52);
    await vm.api.mustPut("vm.pause");
    await host.write("meanwhile");
    using program = await HostStream.connect(socket);
    await program.write("CONNECT 1018\n");
    await vm.api.mustPut("vm.resume");
    assert.deepEqual(brief(await vsock.receive(1008)), [OP.RW, 1008, 52, "meanwhile"]);
    const { op, hostPort } = await vsock.receive(1018);
    assert.equal(op, OP.REQUEST);
    await vsock.send({ op: OP.RST, guestPort: 1018, hostPort });
    await vsock.send({ op: OP.RW, guestPort: 1008, hostPort: 52, data: "later" });
    assert.equal(await host.read(5), "later");
    await vsock.send({ op: OP.RST, guestPort: 1008, hostPort: 52 });
  });
  await test.step("a reset by the driver ends every stream; the device starts again", async () => {
    using host = await toHost(vsock, socket, 1009, 52);
    await vsock.restart();
    if (!IS_REFERENCE) assert.equal(await host.end(), "end");
    await vsock.send({ op: OP.RW, guestPort: 1009, hostPort: 52, data: "?" });
    if (!IS_REFERENCE) assert.equal((await vsock.receive(1009)).op, OP.RST);
    await vm.events.waitFor("virtio-device/reset");
    if (IS_REFERENCE) return;
    const { stream } = await toGuest(vsock, socket);
    stream.close();
  });
});

guestTest("sockets: the file comes with the VM and goes with it", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm();
  const socket = join(vm.directory, "v");
  const config = puppet.config({ vsock: { cid: CID, socket } });
  await vm.api.mustPut("vm.create", config);
  assert.equal(await exists(socket), false);
  await vm.api.mustPut("vm.boot");
  assert.equal((await Deno.lstat(socket)).isSocket, true);

  // a second VM cannot have it, and does not take it away
  await using second = await startVm();
  await using other = await Puppet.make();
  await second.api.mustPut("vm.create", other.config({ vsock: { cid: CID + 1, socket } }));
  const refused = await second.api.put("vm.boot");
  assert.equal(refused.status, 500);
  assert.deepEqual(refused.json<string[]>().slice(2), [
    "Error from device manager",
    "Cannot create virtio-vsock backend",
    "Error binding to the host-side Unix socket",
    "Address already in use (os error 98)",
  ]);
  assert.equal(await exists(socket), true);

  await vm.api.mustPut("vm.reboot");
  await puppet.started(2);
  const vsock = await VsockDriver.start(puppet, { insists: IS_REFERENCE });
  const { stream } = await toGuest(vsock, socket);
  stream.close();
  await vm.api.mustPut("vm.shutdown");
  assert.equal(await exists(socket), false);
  await vm.api.mustPut("vm.boot");
  assert.equal(await exists(socket), true);
  await vm.api.mustPut("vm.delete");
  assert.equal(await exists(socket), false);
});

betterTest("sockets: a file that a killed VMM left is taken over", "refuses to boot", async () => {
  await using puppet = await Puppet.make();
  const directory = puppet.directory;
  const socket = join(directory, "v");
  const start = () => startVm({ args: [...puppet.args(), "--vsock", `cid=${CID},socket=${socket}`] });
  {
    await using killed = await start();
    await puppet.started(1);
    killed.kill("SIGKILL");
    await killed.waitForExit();
  }
  assert.equal(await exists(socket), true);
  await using _vm = await start();
  await puppet.started(2);
  const { stream } = await toGuest(await VsockDriver.start(puppet), socket);
  stream.close();
});

guestTest("sockets: hot-plugged, used, ejected", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", HOTPLUG_CPUS], events: true });
  await puppet.started();
  const hotplug = new PciHotplug(puppet);
  const memory = new DriverMemory(puppet);
  const socket = join(vm.directory, "v");
  const missing = await vm.api.put("vm.add-vsock", { cid: CID, socket: join(vm.directory, "none", "v") });
  assert.equal(missing.json<string[]>().at(-1), "No such file or directory (os error 2)");

  const added = await vm.api.mustPut("vm.add-vsock", { cid: CID, socket, id: "plugged" });
  assert.deepEqual(added.json(), { id: "plugged", bdf: "0000:00:02.0" });
  assert.equal((await vm.api.put("vm.add-vsock", { cid: 43, socket: `${socket}2` })).status, 500);
  assert.equal(await hotplug.takeAdded(), 2);
  const vsock = await VsockDriver.start(puppet, { insists: IS_REFERENCE, memory });
  const { stream } = await toGuest(vsock, socket);
  using program = stream;

  await vm.api.mustPut("vm.remove-device", { id: "plugged" });
  assert.equal((await vm.api.info()).config.vsock, undefined);
  await hotplug.ejectRemoved();
  await vm.events.waitFor("vm/device-removed");
  await eventually("the end of the device's socket", async () => !(await exists(socket)));
  assert.equal(await program.end(), "end");

  const again = await vm.api.mustPut("vm.add-vsock", { cid: CID + 1, socket });
  assert.match(again.body, /"id":"_vsock\d+","bdf":"0000:00:02.0"/);
  await hotplug.takeAdded();
  const second = await VsockDriver.start(puppet, { insists: IS_REFERENCE, memory });
  assert.equal(second.cid, CID + 1);
  const next = await toGuest(second, socket);
  next.stream.close();
});

guestTest("sockets: a slow program holds the guest up, and loses nothing", async () => {
  await using setup = await setUp(128 << 20);
  const { vsock, socket } = setup;
  using host = await toHost(vsock, socket, 1001, 52);
  const sent = createHash("sha256");
  const chunk = 4096;
  let under = 0;
  let taken = 0;
  let total = 0;
  /** Sends until the credit is used up. */
  const fill = async () => {
    while (under + chunk <= CREDIT_BYTES) {
      const data = randomBytes(chunk);
      sent.update(data);
      await vsock.send({ op: OP.RW, guestPort: 1001, hostPort: 52, data });
      under += chunk;
      total += chunk;
      for (let update = await vsock.poll(); update !== undefined; update = await vsock.poll()) {
        assert.equal(update.op, OP.CREDIT_UPDATE);
        under -= update.fwdCnt - taken;
        taken = update.fwdCnt;
      }
    }
  };
  // until the host's socket is full and the device's buffer as well
  await fill();
  assert.ok(total > 2 * CREDIT_BYTES, `${total}`);
  const received = createHash("sha256");
  const reading = (async () => {
    const bytes = new Uint8Array(65536);
    for (let done = 0; done < total;) {
      const count = await host.connection.read(bytes);
      if (count === null) throw new Error(`The stream ended after ${done} bytes of ${total}`);
      received.update(bytes.subarray(0, count));
      done += count;
    }
  })();
  await reading;
  assert.equal(received.digest("hex"), sent.digest("hex"));
});

guestTest("sockets: as many connections as there may be, and no more", async () => {
  await using setup = await setUp(256 << 20);
  const { vm, vsock, socket } = setup;
  const before = (await vm.descriptorsAtRest()).size;
  using service = new HostService(socket, 52);
  const streams: HostStream[] = [];
  for (let first = 0; first < MAX_CONNECTIONS; first += BATCH) {
    const count = Math.min(BATCH, MAX_CONNECTIONS - first);
    const ports = Array.from({ length: count }, (_, i) => 10_000 + first + i);
    await vsock.send(...ports.map((guestPort) => ({ op: OP.REQUEST, guestPort, hostPort: 52 })));
    for (const guestPort of ports) {
      assert.deepEqual(brief(await vsock.receive(guestPort)), [OP.RESPONSE, guestPort, 52, ""]);
      streams.push(await service.accept());
    }
  }
  assert.equal((await vsock.connect(50_000, 52)).op, OP.RST);
  using program = await HostStream.connect(socket);
  assert.notEqual(await program.end(), "data");
  // they all work
  for (const i of [0, 511, MAX_CONNECTIONS - 1]) {
    await streams[i].write(`${i}`);
    assert.deepEqual(brief(await vsock.receive(10_000 + i)), [OP.RW, 10_000 + i, 52, `${i}`]);
  }
  if (!IS_REFERENCE) assert.ok((await vm.descriptors()).size >= before + MAX_CONNECTIONS);
  await vm.api.mustPut("vm.shutdown");
  for (const stream of streams) stream.close();
});

guestTest("sockets: programs that say nothing, or never end their line, keep nobody away", async () => {
  await using setup = await setUp();
  const { vm, vsock, socket } = setup;
  const before = (await vm.descriptorsAtRest()).size;
  using endless = await HostStream.connect(socket);
  await endless.write(`CONNECT ${"0".repeat(10_000)}`).catch(() => {});
  assert.notEqual(await endless.end(), "data");
  const silent: HostStream[] = [];
  for (let i = 0; i < MAX_CONNECTIONS + 100; i++) silent.push(await HostStream.connect(socket));
  const { stream, guestPort, hostPort } = await toGuest(vsock, socket);
  using program = stream;
  await vsock.send({ op: OP.RW, guestPort, hostPort, data: "heard" });
  assert.equal(await program.read(5), "heard");
  if (!IS_REFERENCE) {
    assert.equal(await silent[0].end(), "end");
    assert.ok((await vm.descriptors()).size <= before + MAX_CONNECTIONS);
  }
  for (const one of silent) one.close();
});
