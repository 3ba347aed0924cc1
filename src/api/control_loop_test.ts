import assert from "node:assert/strict";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { EventStream } from "@vmm/log/events.ts";
import { log } from "@vmm/log/logger.ts";
import type { ApiCommand, OperationName } from "./command.ts";
import { ControlLoop } from "./control_loop.ts";
import { OperationError } from "./operation_error.ts";
import { PassedDescriptors } from "./passed_descriptors.ts";
import { type FakeCall, FakeVmFactory } from "./testing/fake_vm.ts";

const CONFIG = {
  cpus: { boot_vcpus: 1, max_vcpus: 2 },
  memory: { size: 1n << 29n, hotplug_size: 1n << 30n },
  serial: { mode: "Null" },
} as unknown as VmConfig;

/** Tools that know no rules and write no real JSON. */
const tools = {
  configText: () => "{}",
  deviceTreeText: () => "{}",
  validate: (config: VmConfig) => config,
  checkConsoles: () => {},
  checkSendMigration: () => {},
  checkReceiveMigration: () => {},
};

log.configure({ verbosity: -2 });

function start(noShutdown = false) {
  const factory = new FakeVmFactory();
  const events = new EventStream();
  const seen: string[] = [];
  const closed: number[] = [];
  events.subscribe(({ source, event, properties }) =>
    seen.push(`${source}/${event}${properties === null ? "" : ` ${Object.values(properties).join()}`}`)
  );
  const loop = new ControlLoop({
    factory: () => Promise.resolve(factory),
    tools: () => Promise.resolve(tools),
    events,
    build: { buildVersion: "v1", version: "1", pid: 7, features: ["kvm"] },
    closeDescriptor: (fd) => closed.push(fd),
    noShutdown,
  });
  const ended = loop.run();
  const call = async (operation: OperationName, body?: unknown, descriptors?: PassedDescriptors) => {
    const reply = await loop.send({ operation, body, descriptors } as ApiCommand);
    return reply.kind === "json" ? reply.text : "";
  };
  const stop = async () => {
    loop.requestExit("end of test");
    return await ended;
  };
  return { loop, factory, seen, closed, ended, call, stop };
}

async function boot(vm: ReturnType<typeof start>): Promise<void> {
  await vm.call("vm.create", CONFIG);
  await vm.call("vm.boot");
  vm.seen.length = 0;
}

Deno.test("sizes that add up to more than 64 bits are told in 64 bits", async () => {
  const vm = start();
  const zones = [{ id: "z", size: 2n ** 64n - 1n }];
  await vm.call("vm.create", { ...CONFIG, memory: { size: 3n, zones } });
  assert.match(await vm.call("vm.info"), /"memory_actual_size":2\}/);
  await vm.stop();
});

Deno.test("ControlLoop answers ping and info while a mutating operation is under way", async () => {
  const vm = start();
  await vm.call("vm.create", CONFIG);
  const gate = Promise.withResolvers<void>();
  vm.factory.gates.set("create", gate.promise);
  const booting = vm.call("vm.boot");
  assert.match(await vm.call("vmm.ping"), /"pid":7/);
  assert.match(await vm.call("vm.info"), /"state":"Created"/);
  gate.resolve();
  await booting;
  assert.match(await vm.call("vm.info"), /"state":"Running"/);
  await vm.stop();
});

/** Every operation that can last, with the call of the machine it waits in, its body and what has to come before. */
const LASTING: readonly (readonly [OperationName, FakeCall, body?: unknown, before?: OperationName[]])[] = [
  ["vm.boot", "boot", undefined, ["vm.shutdown"]],
  ["vm.pause", "pause"],
  ["vm.resume", "resume", undefined, ["vm.pause"]],
  ["vm.shutdown", "shutdown"],
  ["vm.reboot", "shutdown"],
  ["vm.delete", "shutdown"],
  ["vmm.shutdown", "shutdown"],
  ["vm.nmi", "nmi"],
  ["vm.resize", "resize", { desired_vcpus: 2 }],
  ["vm.resize-zone", "resizeZone", { id: "z", desired_ram: 1n }],
  ["vm.resize-disk", "resizeDisk", { id: "_disk0", desired_size: 1n }],
  ["vm.snapshot", "snapshot", { destination_url: "file:///" }, ["vm.pause"]],
  ["vm.coredump", "coredump", { destination_url: "file:///nonexistent/core" }],
  ...["device", "user-device", "disk", "fs", "pmem", "net", "vdpa", "vsock", "generic-vhost-user"].map((
    kind,
  ) => [`vm.add-${kind}` as OperationName, "addDevice", { id: "new" }] as const),
  ["vm.remove-device", "removeDevice", { id: "_disk0" }],
];

for (const [operation, waitsIn, body, before = []] of LASTING) {
  Deno.test(`ControlLoop answers ping and info while ${operation} is under way`, async () => {
    const vm = start();
    await vm.call("vm.create", {
      ...CONFIG,
      disks: [{ id: "_disk0" }],
      memory: { ...CONFIG.memory, zones: [{ id: "z", size: 1n }] },
    });
    await vm.call("vm.boot");
    for (const step of before) await vm.call(step);
    const gate = Promise.withResolvers<void>();
    vm.factory.gates.set(waitsIn, gate.promise);
    let over = false;
    const lasting = vm.call(operation, body).catch(() => {}).then(() => over = true);
    while (vm.factory.calls.at(-1)?.split(" ")[0] !== waitsIn) await Promise.resolve();
    assert.match(await vm.call("vmm.ping"), /"pid":7/);
    assert.match(await vm.call("vm.info"), /"state":"(Created|Running|Paused|Shutdown)"/);
    assert.equal(over, false);
    gate.resolve();
    await lasting;
    await vm.stop();
  });
}

Deno.test("ControlLoop lets counters wait for a mutation that is half done", async () => {
  const vm = start();
  await boot(vm);
  const gate = Promise.withResolvers<void>();
  vm.factory.gates.set("pause", gate.promise);
  const order: string[] = [];
  const pausing = vm.call("vm.pause").then(() => order.push("pause"));
  const counting = vm.call("vm.counters").then(() => order.push("counters"));
  await vm.call("vmm.ping");
  assert.deepEqual(order, []);
  gate.resolve();
  await Promise.all([pausing, counting]);
  assert.deepEqual(order, ["pause", "counters"]);
  assert.match(await vm.call("vm.counters"), /"read_latency_min":18446744073709551615/);
  await vm.stop();
});

Deno.test("ControlLoop runs mutating operations one after another, in order", async () => {
  const vm = start();
  await boot(vm);
  vm.factory.calls.length = 0;
  await Promise.all([vm.call("vm.pause"), vm.call("vm.resume"), vm.call("vm.nmi"), vm.call("vm.shutdown")]);
  assert.deepEqual(vm.factory.calls, ["pause", "resume", "nmi", "shutdown", "releaseConsoles"]);
  await vm.stop();
});

Deno.test("ControlLoop refuses more waiting operations than it has room for", async () => {
  const vm = start();
  await boot(vm);
  const gate = Promise.withResolvers<void>();
  vm.factory.gates.set("nmi", gate.promise);
  const all = Array.from({ length: 100 }, () => vm.call("vm.nmi"));
  const settled = Promise.allSettled(all);
  await vm.call("vmm.ping");
  gate.resolve();
  const refused = (await settled).filter(({ status }) => status === "rejected");
  assert.equal(refused.length, 100 - 65);
  await vm.stop();
});

Deno.test("ControlLoop puts the operation's words above the cause", async () => {
  const vm = start();
  await assert.rejects(vm.call("vm.boot"), (error: OperationError) => {
    assert.deepEqual(error.chain(), ["Error from API", "The VM could not boot", "VM config is missing"]);
    assert.equal(error.status, 404);
    return true;
  });
  await vm.stop();
});

Deno.test("ControlLoop deletes the VM and ends after vmm.shutdown, having answered it", async () => {
  const vm = start();
  await boot(vm);
  assert.equal(await vm.call("vmm.shutdown"), "");
  assert.deepEqual(await vm.ended, { code: 0 });
  assert.deepEqual(vm.seen, ["vm/shutdown", "vm/deleted", "vmm/shutdown"]);
  await assert.rejects(vm.call("vmm.ping"), /shutting down/);
});

Deno.test("ControlLoop ends with code 0 when the guest powers off", async () => {
  const vm = start();
  await boot(vm);
  vm.factory.current!.guest({ kind: "shutdown" });
  assert.deepEqual(await vm.ended, { code: 0 });
  assert.deepEqual(vm.seen, ["vm/shutdown", "vm/deleted", "vmm/shutdown"]);
});

Deno.test("ControlLoop keeps the configuration with noShutdown when the guest powers off", async () => {
  const vm = start(true);
  await boot(vm);
  vm.factory.current!.guest({ kind: "shutdown" });
  await assert.rejects(vm.call("vm.nmi"), OperationError);
  assert.deepEqual(vm.seen, ["vm/shutdown"]);
  assert.match(await vm.call("vm.info"), /"state":"Created"/);
  await vm.call("vm.boot");
  await vm.stop();
});

Deno.test("ControlLoop reboots once for any number of pending resets and opens the consoles anew", async () => {
  const vm = start();
  await boot(vm);
  vm.factory.calls.length = 0;
  const { guest } = vm.factory.current!;
  for (let i = 0; i < 1000; i++) guest({ kind: "reset" });
  await vm.call("vm.pause");
  assert.deepEqual(vm.factory.calls, [
    "shutdown",
    "releaseConsoles",
    "prepareConsoles",
    "create",
    "boot",
    "pause",
  ]);
  guest({ kind: "shutdown" });
  await vm.call("vm.resume");
  assert.deepEqual(vm.seen, [
    "vm/rebooting",
    "vm/rebooted",
    "vm/pausing",
    "vm/paused",
    "vm/resuming",
    "vm/resumed",
  ]);
  await vm.stop();
});

Deno.test("ControlLoop ends with code 1 when a reset by the guest cannot be carried out", async () => {
  const vm = start();
  await boot(vm);
  vm.factory.failures.set("create", new Error("No memory"));
  vm.factory.current!.guest({ kind: "reset" });
  const status = await vm.ended;
  assert.equal(status.code, 1);
  assert.match(String((status.error as Error).message), /rebooting/);
});

for (const step of ["create", "boot"] as const) {
  Deno.test(`ControlLoop stays and is cold when vm.reboot fails at "${step}"`, async () => {
    const vm = start();
    await boot(vm);
    vm.factory.failures.set(step, new Error("No memory"));
    await assert.rejects(vm.call("vm.reboot"), OperationError);
    assert.match(await vm.call("vm.info"), /"state":"Created"/);
    await assert.rejects(vm.call("vm.shutdown"), (error: OperationError) => {
      return error.chain().includes("VM is not running");
    });
    vm.factory.failures.clear();
    await vm.call("vm.boot");
    assert.match(await vm.call("vm.info"), /"state":"Running"/);
    await vm.stop();
  });
}

for (
  const [operation, waitsIn, after] of [
    ["vm.shutdown", "shutdown", "Created"],
    ["vm.reboot", "shutdown", "Running"],
    ["vm.reboot", "create", "Running"],
  ] as const
) {
  Deno.test(`ControlLoop shows a VM as it was while ${operation} is at "${waitsIn}"`, async () => {
    const vm = start();
    await boot(vm);
    await vm.call("vm.pause");
    const gate = Promise.withResolvers<void>();
    vm.factory.gates.set(waitsIn, gate.promise);
    const done = vm.call(operation);
    for (let turn = 0; turn < 50; turn++) {
      assert.match(await vm.call("vm.info"), /"state":"Paused"/);
      assert.equal(vm.loop.figures().vmState, "Paused");
    }
    assert.ok(vm.factory.calls.at(-1)?.startsWith(waitsIn), "it waits there");
    gate.resolve();
    await done;
    assert.match(await vm.call("vm.info"), new RegExp(`"state":"${after}"`));
    assert.equal(vm.loop.figures().vmState, after);
    await vm.stop();
  });
}

Deno.test("ControlLoop ends with code 1 on a fatal event", async () => {
  const vm = start();
  await boot(vm);
  vm.factory.current!.guest({ kind: "fatal", text: "KVM_EXIT_INTERNAL_ERROR" });
  const status = await vm.ended;
  assert.equal(status.code, 1);
  assert.equal((status.error as Error).message, "KVM_EXIT_INTERNAL_ERROR");
});

Deno.test("ControlLoop tells panics and virtio events, a bounded number of them", async () => {
  const vm = start();
  await boot(vm);
  const { guest } = vm.factory.current!;
  guest({ kind: "panic", value: 1 });
  guest({ kind: "panic", value: 2 });
  guest({ kind: "panic", value: 9 });
  for (let i = 0; i < 100_000; i++) guest({ kind: "virtio", id: "_disk0", event: "reset" });
  await vm.call("vm.nmi");
  assert.deepEqual(vm.seen.slice(0, 4), [
    "guest/panic panic",
    "guest/panic crash_loaded",
    "guest/panic unknown_event",
    "virtio-device/reset _disk0",
  ]);
  assert.ok(vm.seen.length < 1_000);
  await vm.stop();
});

Deno.test("ControlLoop keeps tap descriptors with the device and closes them with it", async () => {
  const vm = start();
  const pass = (fds: number[]) => new PassedDescriptors(fds, (fd) => vm.closed.push(fd));
  await vm.call("vm.create", CONFIG);
  const kept = pass([20, 21]);
  await vm.call("vm.add-net", { id: "net" }, kept);
  kept.release();
  await vm.call("vm.boot");
  await vm.call("vm.reboot");
  assert.deepEqual(vm.closed, []);
  await vm.call("vm.shutdown");
  await vm.call("vm.remove-device", { id: "net" });
  assert.deepEqual(vm.closed, [20, 21]);
  await vm.call("vm.add-net", { id: "net" }, pass([30]));
  await vm.call("vm.delete");
  assert.deepEqual(vm.closed, [20, 21, 30]);
  const refused = pass([40]);
  await assert.rejects(vm.call("vm.add-net", {}, refused));
  refused.release();
  assert.deepEqual(vm.closed, [20, 21, 30, 40]);
  await vm.stop();
});

Deno.test("ControlLoop asks the machine only for what it does not have, and refuses what it cannot have", async () => {
  const vm = start();
  await boot(vm);
  const calls = vm.factory.calls.length;
  for (const wish of [{ desired_vcpus: 1 }, { desired_ram: 1n << 29n }, { desired_ram: 1n << 28n }]) {
    await vm.call("vm.resize", wish);
  }
  for (
    const wish of [{ desired_vcpus: 0 }, { desired_vcpus: 3 }, { desired_ram: (1n << 29n) + 5n }, {
      desired_ram: 1n << 31n,
    }]
  ) {
    await assert.rejects(vm.call("vm.resize", wish));
  }
  assert.equal(vm.factory.calls.length, calls, "nothing of that reached the machine");
  await vm.stop();
});

Deno.test("ControlLoop remembers what resizing changed, part by part", async () => {
  const vm = start();
  const stored: VmConfig[] = [];
  const { configText } = tools;
  tools.configText = ((config: VmConfig) => (stored.push(config), "{}")) as typeof configText;
  await boot(vm);
  await assert.rejects(
    vm.call("vm.resize", { desired_vcpus: 2, desired_ram: 1n << 30n, desired_balloon: 5n }),
  );
  await vm.call("vm.info");
  assert.equal(stored.at(-1)!.cpus.boot_vcpus, 2);
  assert.equal(stored.at(-1)!.memory.size, 1n << 30n);
  const texts = stored.length;
  await vm.call("vm.info");
  assert.equal(stored.length, texts, "the text of an unchanged configuration is not made again");
  tools.configText = configText;
  await vm.stop();
});
