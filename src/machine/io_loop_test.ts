import assert from "node:assert/strict";
import { close, eventfd } from "@ffi/libc/fd.ts";
import { drainEvent, signalEvent } from "@ffi/libc/io.ts";
import type { AttendedQueue } from "@vmm/virtio/device.ts";
import { IoLoop } from "./io_loop.ts";

const EPOLLIN = 1;

/** A loop whose clock and host are the test's, and an eventfd that makes it return. */
function setUp(options: { hasFreeCpu?: boolean; cpus?: number } = {}) {
  const errors: string[] = [];
  let nowUs = 0;
  const loop = new IoLoop((error) => errors.push(error.message), {
    nowUs: () => nowUs,
    hasFreeCpu: () => options.hasFreeCpu ?? true,
    cpus: options.cpus ?? 2,
  });
  const bell = eventfd();
  let turns = 0;
  /** Runs until `turns` waits are over; the bell keeps them from blocking. */
  const run = (count: number) => {
    turns = count;
    signalEvent(bell);
    loop.watch(bell, EPOLLIN, () => {});
    loop.run(() => turns-- <= 0);
    drainEvent(bell);
  };
  return {
    loop,
    errors,
    run,
    pass: (us: number) => nowUs += us,
    [Symbol.dispose]: () => {
      loop.clear();
      close(bell);
    },
  };
}

/** A queue that has requests where the test says so. */
class FakeQueue implements AttendedQueue {
  readonly log: string[] = [];
  constructor(private readonly onLook: () => boolean = () => false, private readonly onRest = () => false) {}
  look(): boolean {
    const found = this.onLook();
    this.log.push(found ? "found" : "nothing");
    return found;
  }
  rest(): boolean {
    this.log.push("rest");
    return this.onRest();
  }
}

/** Has a queue find work after two short sleeps, which makes looking worth it, and goes on for `turns` waits. */
function workComes({ loop, run }: ReturnType<typeof setUp>, begin: () => boolean, turns = 1): void {
  const fd = eventfd();
  const answers: boolean[] = [];
  loop.watchEvent(fd, () => answers.push(begin()));
  for (const count of [1, turns]) {
    signalEvent(fd);
    run(count);
  }
  assert.equal(answers[0], false);
  loop.unwatch(fd);
  close(fd);
}

Deno.test("a queue is not looked at before sleeps have been short", () => {
  using rig = setUp();
  const queue = new FakeQueue();
  const begin = rig.loop.attend(queue);
  assert.equal(begin(), false);
  assert.deepEqual(queue.log, []);
});

Deno.test("a queue is looked at for a while after short sleeps, then rests for good", () => {
  using rig = setUp();
  const queue = new FakeQueue(() => {
    rig.pass(10);
    return false;
  });
  workComes(rig, rig.loop.attend(queue));
  const looks = queue.log.indexOf("rest");
  assert.ok(looks > 0, queue.log.join());
  assert.deepEqual(queue.log.slice(looks), ["rest"]);
  assert.ok(queue.log.slice(0, looks).every((entry) => entry === "nothing"));
});

Deno.test("looking goes on while it finds something", () => {
  using rig = setUp();
  let left = 100;
  const queue = new FakeQueue(() => {
    rig.pass(30);
    return left-- > 0;
  });
  workComes(rig, rig.loop.attend(queue), 300);
  assert.equal(queue.log.filter((entry) => entry === "found").length, 100);
  assert.equal(queue.log.at(-1), "rest");
});

Deno.test("what came at the last moment is served", () => {
  using rig = setUp();
  let rested = false;
  const queue: FakeQueue = new FakeQueue(() => {
    rig.pass(30);
    return rested && queue.log.at(-1) === "rest";
  }, () => rested = true);
  workComes(rig, rig.loop.attend(queue), 20);
  assert.deepEqual(queue.log.slice(-2), ["rest", "found"]);
});

Deno.test("a queue is looked at for a shorter while where others wait for a CPU", () => {
  const looks = [true, false].map((hasFreeCpu) => {
    using rig = setUp({ hasFreeCpu });
    const queue = new FakeQueue(() => {
      rig.pass(0.5);
      return false;
    });
    workComes(rig, rig.loop.attend(queue), 20);
    assert.equal(queue.log.at(-1), "rest");
    return queue.log.length;
  });
  assert.ok(looks[1] > 1 && looks[1] < looks[0], looks.join());
});

Deno.test("nothing is looked at where a guest would need the only CPU", () => {
  using rig = setUp({ hasFreeCpu: false, cpus: 1 });
  const queue = new FakeQueue();
  workComes(rig, rig.loop.attend(queue), 20);
  assert.deepEqual(queue.log, []);
});

Deno.test("descriptors and timers have their turn while a queue is looked at", () => {
  using rig = setUp();
  const order: string[] = [];
  let left = 1000;
  const queue = new FakeQueue(() => {
    rig.pass(5);
    return left-- > 0;
  });
  const begin = rig.loop.attend(queue);
  const fd = eventfd();
  const isBusy = () => left > 0 ? "while the queue is busy" : "too late";
  workComes(rig, () => {
    const looked = begin();
    if (!looked) return false;
    rig.loop.watchEvent(fd, () => order.push(`fd ${isBusy()}`));
    rig.loop.timer(0, () => order.push(`timer ${isBusy()}`));
    signalEvent(fd);
    return true;
  }, 20);
  assert.deepEqual(order.sort(), ["fd while the queue is busy", "timer while the queue is busy"]);
  rig.loop.unwatch(fd);
  close(fd);
});

Deno.test("a loop that has to return lets go of the queues it looks at", () => {
  using rig = setUp();
  const queue = new FakeQueue(() => {
    rig.pass(1);
    return true;
  });
  workComes(rig, rig.loop.attend(queue));
  assert.deepEqual([queue.log.at(-2), queue.log.at(-1)], ["found", "rest"]);
});

Deno.test("a callback that throws is told, and the loop goes on", () => {
  using rig = setUp();
  const fd = eventfd();
  rig.loop.watchEvent(fd, () => {
    throw new Error("boom");
  });
  signalEvent(fd);
  rig.run(2);
  assert.deepEqual(rig.errors, ["boom"]);
  rig.loop.unwatch(fd);
  close(fd);
});
