import assert from "node:assert/strict";
import type { VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import { type IoMachine, IoThreads, type IoThreadsOptions } from "./io_threads.ts";
import type { IoStart } from "./io_worker.ts";
import { type WorkerCall, WorkerPort } from "./worker_port.ts";

/** Workers that note what they are asked and answer at once, but for methods that are stuck. */
class FakeWorkers {
  readonly log: string[] = [];
  readonly starts: IoStart[] = [];
  readonly stuck = new Set<string>();
  readonly replies = new Map<string, unknown>();
  readonly failing = new Set<string>();
  readonly #names = new Map<WorkerPort, string>();

  make(): WorkerPort {
    const worker = {
      postMessage: ({ seq, method, payload }: WorkerCall) => {
        if (method === "start") {
          this.starts.push(payload as IoStart);
          this.#names.set(port, (payload as IoStart).name);
        }
        const name = this.#names.get(port);
        this.log.push(`${name} ${method}`);
        if (this.stuck.has(`${name} ${method}`)) return;
        const value = this.replies.get(`${name} ${method}`);
        const failed = this.failing.has(`${name} ${method}`);
        const data = failed ? { seq, errors: [`${name} cannot`] } : { seq, value };
        queueMicrotask(() => port.worker.onmessage!({ data } as MessageEvent));
      },
    };
    const port: WorkerPort = new WorkerPort(worker as unknown as Worker);
    return port;
  }

  retire(port: WorkerPort, reusable: boolean): Promise<void> {
    this.log.push(`${this.#names.get(port)} ${reusable ? "given back" : "ended"}`);
    return Promise.resolve();
  }

  end(port: WorkerPort): void {
    this.log.push(`${this.#names.get(port)} abandoned`);
  }

  take = () => Promise.resolve(this.make());
}

const MACHINE = { regions: [] } as unknown as IoMachine;

function device(id: string, queues: number, bound: readonly number[] = []): VirtioDeviceDescriptor {
  return {
    id,
    kind: "block",
    block: new SharedArrayBuffer(4),
    kickFds: Array(queues).fill(-1),
    backend: {},
    queueGroups: Array.from({ length: queues }, (_, queue) => [queue]),
    queueAffinity: bound.map((queue) => ({ queue, cpus: [0] })),
  };
}

async function start(devices: VirtioDeviceDescriptor[], options: Partial<IoThreadsOptions> = {}) {
  const workers = new FakeWorkers();
  const events: string[] = [];
  const io = new IoThreads({
    first: workers.take(),
    firstWakeFd: -1,
    onEvent: (event) => events.push("text" in event ? event.text : event.kind),
    spare: 0,
    workers,
    ...options,
  });
  for (const one of devices) io.place(one);
  await io.start(MACHINE);
  await io.call("resume"); // waits for further Workers
  workers.log.length = 0;
  return { io, workers, events };
}

Deno.test("IoThreads starts the first Worker with what is left, and one for each bound queue", async () => {
  const { io, workers } = await start([device("a", 1), device("b", 2, [1])]);
  const shares = workers.starts.map(({ name, cpus, devices }) => [
    name,
    cpus,
    devices.map(({ descriptor, share }) => [descriptor.id, share?.number, share?.queues]),
  ]);
  assert.deepEqual(shares, [
    ["io0", undefined, [["a", undefined, undefined], ["b", 0, [0]]]],
    ["b_q1", [0], [["b", 1, [1]]]],
  ]);
  assert.equal(await io.shutdown(), true);
});

Deno.test("IoThreads has vCPUs wake the Worker that leads a device", async () => {
  const { io } = await start([device("a", 1), device("b", 2, [0]), device("c", 2, [1])]);
  const fn = (id: string) => ({
    kind: "virtio" as const,
    id,
    segment: 0,
    slot: 0,
    block: new SharedArrayBuffer(4),
  });
  const wakes = ["a", "b", "c"].map((id) => io.withWake(fn(id)).wakeFd !== undefined);
  assert.deepEqual(wakes, [false, true, false]);
  await io.shutdown();
});

Deno.test("pause, resume and new memory concern all Workers", async () => {
  const { io, workers } = await start([device("b", 2, [0, 1])]);
  await io.call("pause");
  await io.call("addRegion", { gpa: 1 });
  await io.call("resume");
  const names = ["io0", "b_q0", "b_q1"];
  assert.deepEqual(
    workers.log,
    ["pause", "addRegion", "resume"].flatMap((m) => names.map((n) => `${n} ${m}`)),
  );
  await io.call("addDevice", device("c", 1, [0]));
  assert.deepEqual(workers.starts.at(-1)?.regions, [{ gpa: 1 }]);
  await io.shutdown();
});

Deno.test("a back-end that never answers cannot hang a pause: everything goes on, and the error names the thread", async () => {
  const { io, workers } = await start([device("b", 2, [1])], { drainTimeoutMs: 1 });
  workers.stuck.add("b_q1 pause");
  await assert.rejects(io.call("pause"), (error: Error) => {
    assert.match(error.message, /I\/O thread b_q1 does not finish what is in flight/);
    return true;
  });
  assert.deepEqual(workers.log, ["io0 pause", "b_q1 pause", "io0 resume", "b_q1 resume"]);
  assert.equal(await io.shutdown(), true);
});

Deno.test("a back-end that never answers cannot hang a shutdown, which says that something is still in use", async () => {
  const { io, workers, events } = await start([device("a", 1)], { drainTimeoutMs: 1 });
  workers.stuck.add("io0 stop");
  assert.equal(await io.shutdown(), false);
  assert.deepEqual(workers.log, ["io0 stop", "io0 abandoned"]);
  assert.match(events.join(), /io0 does not stop/);
});

Deno.test("a removed device takes its threads along", async () => {
  const { io, workers } = await start([device("a", 1), device("b", 2, [1])]);
  await io.call("removeDevice", "b");
  assert.deepEqual(workers.log, ["b_q1 removeDevice", "b_q1 stop", "b_q1 ended", "io0 removeDevice"]);
  workers.log.length = 0;
  await io.call("pause");
  assert.deepEqual(workers.log, ["io0 pause"]);
  await io.shutdown();
});

Deno.test("a device one of whose threads cannot start leaves nothing behind when it is removed", async () => {
  const { io, workers } = await start([]);
  workers.failing.add("b_q1 start");
  await assert.rejects(io.call("addDevice", device("b", 2, [1])), /b_q1 cannot/);
  await io.call("removeDevice", "b");
  workers.log.length = 0;
  await io.call("addDevice", device("c", 1));
  assert.deepEqual(workers.log, ["io0 addDevice"]);
  await io.shutdown();
});

Deno.test("a new size reaches every share before the leading one, and a refusal stops it", async () => {
  const { io, workers } = await start([device("b", 2, [0, 1])]);
  const order = { id: "b", command: { kind: "resize" } };
  for (const name of ["b_q0", "b_q1"]) workers.replies.set(`${name} command`, { result: 0 });
  assert.deepEqual(await io.call("command", order), { result: 0 });
  assert.deepEqual(workers.log, ["b_q1 command", "b_q0 command"]);
  workers.replies.set("b_q1 command", { result: -22 });
  assert.deepEqual(await io.call("command", order), { result: -22 });
  assert.deepEqual(workers.log.slice(2), ["b_q1 command"]);
  await io.shutdown();
});

Deno.test("spare threads are given back and taken by the next device", async () => {
  const { io, workers } = await start([device("a", 2)], { spare: 1 });
  assert.deepEqual(workers.starts.map(({ name }) => name), ["io0", "a_q1"]);
  await io.call("addDevice", device("b", 2));
  assert.equal(workers.starts.length, 2);
  await io.call("removeDevice", "a");
  assert.ok(workers.log.includes("a_q1 given back"));
  await io.call("addDevice", device("c", 2));
  assert.equal(workers.starts.at(-1)?.name, "c_q1");
  await io.shutdown();
});

Deno.test("a Worker that dies is told with its name", async () => {
  const events: string[] = [];
  const workers = new FakeWorkers();
  const first = workers.make();
  const io = new IoThreads({
    first: Promise.resolve(first),
    firstWakeFd: -1,
    onEvent: (event) => events.push("text" in event ? `${event.kind}: ${event.text}` : event.kind),
    workers,
    spare: 0,
  });
  await io.start(MACHINE);
  first.worker.onerror!({ message: "boom", preventDefault: () => {} } as ErrorEvent);
  assert.deepEqual(events, ["fatal: I/O Worker io0: Worker failed: boom"]);
  assert.equal(await io.shutdown(), true);
});

Deno.test("before the start nothing is asked of anyone", async () => {
  const workers = new FakeWorkers();
  const io = new IoThreads({ first: workers.take(), firstWakeFd: -1, onEvent: () => {}, workers, spare: 0 });
  io.place(device("b", 1, [0]));
  assert.equal(await io.call("pause"), undefined);
  assert.equal(await io.shutdown(), true);
  assert.deepEqual(workers.log, ["undefined given back"]);
});
