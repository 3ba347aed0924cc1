import assert from "node:assert/strict";
import type { Activation, IoEnvironment, QueueHandler } from "./device.ts";
import { Lifecycle, QUEUE_WORDS, QueueWord, restartAfterRestore, type VirtioPciState } from "./pci/block.ts";
import { createVirtioPci } from "./pci/create.ts";
import { CONFIG_CHANGED, DeviceRunner } from "./runner.ts";
import { DescriptorChain } from "./queue/chain.ts";
import { MockDriver } from "./testing/mock_driver.ts";

type Handler = Partial<QueueHandler>;

/** A one-queue device with MSI-X on, its rings already in the block. */
function setUp(make: (activation: Activation) => Handler, options: { paused?: boolean } = {}) {
  const driver = new MockDriver();
  const state = createVirtioPci({
    virtioId: 4,
    queueSizes: [16, 16],
    features: 1n << 32n,
    config: new Uint8Array(4),
    bar: { kind: "memory64", base: 0x1_0000_0000 },
  });
  const log: string[] = [];
  const sent: number[] = [];
  const watched = new Map<number, { events: number; ready: (events: number) => void }>();
  const timers: (() => void)[] = [];
  const env: IoEnvironment = {
    watch: (fd, events, ready) => watched.set(fd, { events, ready }),
    rewatch: (fd, events) => watched.get(fd)!.events = events,
    unwatch: (fd) => watched.delete(fd),
    timer: (_delay, fire) => {
      timers.push(fire);
      return () => {};
    },
    post: (event) => log.push(event.kind === "virtio" ? String(event.event) : `log: ${event.text}`),
  };
  program(state, driver);
  const runner = new DeviceRunner(
    { id: "_d", kind: "test", block: state.buffer, kickFds: [], backend: { n: 1 } },
    (activation) => ({
      onKick: (index) => log.push(`kick ${index}`),
      drain: () => log.push("drain"),
      close: () => log.push("close"),
      ...make(activation),
    }),
    { memory: driver.memory, interrupts: { signal: (_l, _h, data) => sent.push(data) > 0 }, env },
    options.paused ?? false,
  );
  return { runner, state, driver, log, sent, watched, timers };
}

function program(state: VirtioPciState, driver: MockDriver): void {
  const set = (word: number, value: number) => state.queues[word] = value;
  set(QueueWord.size, driver.size);
  set(QueueWord.enabled, 1);
  set(QueueWord.vector, 1);
  set(QueueWord.descLow, driver.descriptors);
  set(QueueWord.driverLow, driver.driver);
  set(QueueWord.deviceLow, driver.device);
  state.configVector = 0;
  state.status = 0x0f;
  state.lifecycle = Lifecycle.activate;
  state.config[state.msixCapability + 3] = 0x80;
  for (const vector of [0, 1]) {
    state.msixTable[4 * vector + 2] = 0x30 + vector;
    state.msixTable[4 * vector + 3] = 0;
  }
}

Deno.test("poll() activates once and looks at every enabled queue", () => {
  const { runner, state, log } = setUp((a) => {
    assert.deepEqual([a.queues.length, a.queues[0].enabled, a.queues[1].enabled], [2, true, false]);
    assert.equal(a.featuresHigh, 0);
    return {};
  });
  runner.poll();
  runner.poll();
  assert.deepEqual(log, ["activated", "kick 0"]);
  assert.equal(state.lifecycle, Lifecycle.active);
});

Deno.test("a handler serves requests and raises its queue's vector", () => {
  const { runner, driver, sent } = setUp((a) => {
    const chain = new DescriptorChain();
    return {
      onKick: () => {
        while (a.queues[0].pop(chain)) a.queues[0].push(chain.head, 0);
        if (a.queues[0].publish()) a.interruptQueue(0);
      },
    };
  });
  const { head } = driver.submit([{ receive: 4 }]);
  runner.poll();
  assert.deepEqual(driver.complete(), { head, writtenBytes: 0 });
  assert.deepEqual(sent, [0x31]);
});

Deno.test("rings outside RAM fail the activation with a config interrupt", () => {
  const { runner, state, log, sent } = setUp(() => ({}));
  state.queues[QueueWord.descHigh] = 1;
  runner.poll();
  assert.equal(state.lifecycle, Lifecycle.failed);
  assert.equal(state.status, 0x4f);
  assert.equal(state.faults, 1);
  assert.deepEqual(sent, [0x30]);
  assert.match(log.join(), /queue 0: a ring lies outside RAM/);
});

Deno.test("a reset drains, closes, clears the registers and acknowledges", () => {
  const { runner, state, log } = setUp(() => ({}));
  runner.poll();
  state.lifecycle = Lifecycle.reset;
  runner.poll();
  assert.deepEqual(log.slice(2), ["drain", "close", "reset"]);
  assert.deepEqual([state.lifecycle, state.status, state.queues[QueueWord.enabled]], [Lifecycle.idle, 0, 0]);
  program(state, new MockDriver());
  runner.poll();
  assert.equal(runner.active, true);
});

Deno.test("a handler that throws breaks its own device only", () => {
  const { runner, state, log } = setUp(() => ({
    onKick: () => {
      throw new Error("oops");
    },
  }));
  runner.poll();
  assert.equal(state.status & 0x40, 0x40);
  assert.equal(runner.active, false);
  assert.match(log.join("\n"), /"_d" failed: Error: oops/);
  runner.kick(0);
  state.lifecycle = Lifecycle.reset;
  runner.poll();
  assert.equal(state.status, 0);
});

Deno.test("a handler that cannot start fails the device", () => {
  const { runner, state } = setUp(() => {
    throw new Error("no backend");
  });
  runner.poll();
  assert.equal(state.lifecycle, Lifecycle.failed);
});

Deno.test("a queue the driver broke fails the device", () => {
  const { runner, state, driver, log } = setUp((a) => ({
    onKick: () => a.queues[0].pop(new DescriptorChain()),
  }));
  driver.describe(0, 0, 1, 0);
  driver.offer(0);
  runner.poll();
  assert.equal(state.lifecycle, Lifecycle.failed);
  assert.match(log.join(), /outside RAM.*\n?/);
});

Deno.test("fail() from inside the handler takes effect when it returns", () => {
  const { runner, log, state } = setUp((a) => ({
    onKick: () => {
      a.fail({ fault: "bad header" });
      log.push("still here");
    },
  }));
  runner.poll();
  assert.deepEqual(log.slice(1, 4), ["still here", "drain", "close"]);
  assert.equal(state.faults, 1);
});

Deno.test("pause() writes the indices, silences callbacks; resume() catches up", () => {
  let served = 0;
  const { runner, state, driver, log, watched, timers } = setUp((a) => {
    const chain = new DescriptorChain();
    a.env.watch(7, 1, () => log.push("ready"));
    a.env.timer(10, () => log.push("fired"));
    return {
      onKick: () => {
        while (a.queues[0].pop(chain)) served++;
      },
    };
  });
  driver.submit([{ receive: 4 }]);
  runner.poll();
  runner.pause();
  assert.deepEqual([served, state.queues[QueueWord.nextAvail]], [1, 1]);
  driver.submit([{ receive: 4 }]);
  runner.kick(0);
  timers[0]();
  assert.deepEqual([served, watched.get(7)!.events], [1, 0]);
  assert.ok(!log.includes("fired"));
  runner.resume();
  assert.deepEqual([served, watched.get(7)!.events], [2, 1]);
  assert.ok(log.includes("fired"));
  runner.remove();
  assert.equal(watched.size, 0);
});

Deno.test("a restored device goes on from the saved indices after resume", () => {
  const { runner, state, driver, log } = setUp((a) => {
    assert.equal(a.queues[0].nextAvail, 5);
    return {};
  }, { paused: true });
  state.lifecycle = Lifecycle.active;
  state.queues[QueueWord.nextAvail] = 5;
  driver.setAvailableIndex(5);
  restartAfterRestore(state);
  runner.poll();
  assert.deepEqual(log, []);
  runner.resume();
  assert.deepEqual(log, ["activated", "kick 0", "kick 0"]);
});

Deno.test("notifications that came as MMIO writes reach the handler", () => {
  const { runner, state, log } = setUp(() => ({}));
  runner.poll();
  state.queues[QUEUE_WORDS + QueueWord.kick] = 1;
  state.kicked = 1;
  runner.poll();
  assert.deepEqual(log.slice(2), ["kick 1"]);
  assert.equal(state.kicked, 0);
});

Deno.test("command() reaches the handler, and CONFIG_CHANGED interrupts by itself", () => {
  const { runner, state, sent } = setUp(() => ({ onCommand: (command) => ({ got: command.kind }) }));
  assert.equal(runner.command({ kind: "resize" }), undefined);
  runner.poll();
  assert.deepEqual(runner.command({ kind: "resize" }), { got: "resize" });
  runner.command({ kind: CONFIG_CHANGED });
  assert.equal(state.configGeneration, 1);
  assert.deepEqual(sent, [0x30]);
});

Deno.test("a callback that throws fails the device and forgets its watches", () => {
  const { runner, state, watched } = setUp((a) => {
    a.env.watch(3, 1, () => {
      throw new Error("bug");
    });
    return {};
  });
  runner.poll();
  watched.get(3)!.ready(1);
  assert.equal(state.lifecycle, Lifecycle.failed);
  assert.equal(watched.size, 0);
});

/** Two runners that share a two-queue device out; wakes are noted and carried out by `settle`. */
function setUpShares() {
  const drivers = [new MockDriver(), new MockDriver()];
  const state = createVirtioPci({
    virtioId: 2,
    queueSizes: [16, 16],
    features: 1n << 32n,
    config: new Uint8Array(4),
    bar: { kind: "memory64", base: 0x1_0000_0000 },
  });
  program(state, drivers[0]);
  for (let word = 0; word < QUEUE_WORDS; word++) {
    if (word !== QueueWord.maxSize) state.queues[QUEUE_WORDS + word] = state.queues[word];
  }
  const log: string[] = [];
  const woken = new Set<number>();
  const running = new Int32Array(new SharedArrayBuffer(8));
  const activations: Activation[] = [];
  const runners = [0, 1].map((number) => {
    const env: IoEnvironment = {
      watch: () => {},
      rewatch: () => {},
      unwatch: () => {},
      timer: () => () => {},
      post: (event) => log.push(`${number}: ${event.kind === "virtio" ? event.event : event.text}`),
    };
    return new DeviceRunner(
      { id: "_d", kind: "test", block: state.buffer, kickFds: [], backend: {} },
      (activation) => {
        activations[number] = activation;
        const chain = new DescriptorChain();
        return {
          onKick: (index) => {
            log.push(`${number}: kick ${index}`);
            while (activation.queues[index].pop(chain)) activation.queues[index].push(chain.head, 0);
          },
          drain: () => log.push(`${number}: drain`),
          close: () => log.push(`${number}: close`),
        };
      },
      { memory: drivers[number].memory, interrupts: { signal: () => true }, env },
      false,
      { number, queues: [number], running, wake: (share) => woken.add(share) },
    );
  });
  const settle = () => {
    for (const share of woken) {
      woken.delete(share);
      runners[share].poll();
    }
  };
  return { drivers, state, log, woken, running, activations, runners, settle };
}

Deno.test("shares of a device serve their own queues only", () => {
  const { drivers, state, log, running, activations, runners, settle } = setUpShares();
  runners[1].poll(); // nothing before the leader has started the device
  assert.deepEqual(log, []);
  runners[0].poll();
  settle();
  assert.deepEqual(log, ["0: activated", "0: kick 0", "1: kick 1"]);
  assert.deepEqual([...running], [0, 1]);
  assert.deepEqual(activations.map((a) => [a.share, a.queues[0].enabled, a.queues[1].enabled]), [
    [0, true, false],
    [1, false, true],
  ]);
  drivers[1].submit([{ receive: 1 }]);
  runners[1].kick(1);
  runners[0].pause();
  runners[1].pause();
  const taken = [0, 1].map((queue) => state.queues[queue * QUEUE_WORDS + QueueWord.nextAvail]);
  assert.deepEqual(taken, [0, 1]);
});

Deno.test("a reset is done when every share has stopped", () => {
  const { state, log, runners, settle } = setUpShares();
  runners[0].poll();
  settle();
  log.length = 0;
  state.lifecycle = Lifecycle.reset;
  runners[0].poll();
  assert.equal(state.lifecycle, Lifecycle.reset);
  assert.deepEqual(log, ["0: drain", "0: close"]);
  settle();
  assert.deepEqual(log.slice(2), ["1: drain", "1: close", "0: reset"]);
  assert.deepEqual([state.lifecycle, state.status], [Lifecycle.idle, 0]);
});

Deno.test("a share that finds the device reset before it could start stays out", () => {
  const { state, log, running, runners, settle } = setUpShares();
  runners[0].poll();
  state.lifecycle = Lifecycle.reset;
  runners[0].poll();
  settle();
  assert.deepEqual([state.lifecycle, ...running], [Lifecycle.idle, 0, 0]);
  assert.deepEqual(log, ["0: activated", "0: kick 0", "0: drain", "0: close", "0: reset"]);
});

Deno.test("a share that breaks fails the device in all shares", () => {
  const { state, log, running, activations, runners, settle } = setUpShares();
  runners[0].poll();
  settle();
  log.length = 0;
  activations[1].fail({ fault: "nonsense" });
  assert.deepEqual([state.lifecycle, state.status, state.faults], [Lifecycle.failed, 0x4f, 1]);
  settle();
  assert.deepEqual(log, [
    "1: drain",
    "1: close",
    '1: Device "_d" needs a reset: nonsense',
    "0: drain",
    "0: close",
  ]);
  assert.deepEqual([...running], [0, 0]);
  runners[1].poll();
  assert.equal(log.length, 5);
});

Deno.test("a notification that came as a register write reaches the share of its queue", () => {
  const { state, log, runners, settle } = setUpShares();
  runners[0].poll();
  settle();
  log.length = 0;
  state.queues[QUEUE_WORDS + QueueWord.kick] = 1;
  state.kicked = 1;
  runners[0].poll();
  settle();
  assert.deepEqual(log, ["1: kick 1"]);
});

Deno.test("a removed share lets a reset go on", () => {
  const { state, runners, settle } = setUpShares();
  runners[0].poll();
  settle();
  state.lifecycle = Lifecycle.reset;
  runners[0].poll();
  runners[1].remove();
  settle();
  assert.equal(state.lifecycle, Lifecycle.idle);
});
