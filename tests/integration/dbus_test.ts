/**
 * The D-Bus API on a real message bus, called by the tools every distribution has.
 */
import assert from "node:assert/strict";
import { MessageType } from "@vmm/api/dbus/message.ts";
import { BusConnection } from "@vmm/api/dbus/serve_connection.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { BUS_COMMANDS, INTERFACE, MessageBus, OBJECT, SERVICE } from "@tests/framework/message_bus.ts";
import { readExposition } from "@tests/framework/prometheus.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";

/** More than is read of one call. The tools take no argument as long as that. */
const TOO_LONG_BYTES = (8 << 20) + 1;

/** Calls `VmCreate` with an argument that is too long; returns the error's name. */
async function longCall(address: string): Promise<string | undefined> {
  const connection = await BusConnection.open(address);
  try {
    const bus = "org.freedesktop.DBus";
    await connection.send({
      type: MessageType.call,
      destination: bus,
      path: "/org/freedesktop/DBus",
      interface: bus,
      member: "Hello",
    });
    const serial = await connection.send({
      type: MessageType.call,
      destination: SERVICE,
      path: OBJECT,
      interface: INTERFACE,
      member: "VmCreate",
      body: [" ".repeat(TOO_LONG_BYTES)],
    });
    for (;;) {
      const message = await connection.receive();
      if (message === undefined || message.header.replySerial === serial) return message?.header.errorName;
    }
  } finally {
    connection.close();
  }
}

/** Lives of a VM, three events each: more than the VMM and the kernel together keep for a bus. */
const CYCLES = 600;
/** Events the VMM keeps. */
const KEPT = 1_024;

const NEEDS = { binary: true, commands: BUS_COMMANDS };
testWith(
  NEEDS,
  "D-Bus: methods answer as the REST API does, errors carry the operation's words",
  async () => {
    await using bus = await MessageBus.start();
    await using vm = await bus.startVm();
    assert.equal(JSON.parse((await bus.call("VmmPing")).stdout).pid, vm.pid);
    assert.equal(
      (await bus.call("VmInfo")).stderr,
      "Error org.freedesktop.DBus.Error.Failed: The VM info is not available",
    );
    assert.equal(
      (await bus.call("VmCreate", "string:{")).stderr,
      "Error org.freedesktop.DBus.Error.Failed: EOF while parsing an object at line 1 column 1",
    );
    assert.equal(
      (await bus.call("VmCreate", "uint32:1")).stderr,
      "Error org.freedesktop.zbus.Error: Signature mismatch: got `u`, expected `s`",
    );
    assert.equal(
      (await bus.call("VmCreate")).stderr,
      "Error org.freedesktop.zbus.Error: Signature mismatch: got ``, expected `s`",
    );
    assert.deepEqual(
      await bus.call("VmCreate", 'string:{"console":{"mode":"Null"},"payload":{"kernel":"/k"}}'),
      {
        code: 0,
        stdout: "",
        stderr: "",
      },
    );
    assert.equal((await bus.call("VmInfo")).stdout, (await vm.api.get("vm.info")).body);
    assert.equal((await bus.call("VmAddDisk", 'string:{"path":"/disk"}')).stdout, "");
    assert.equal((await vm.api.info()).config.disks[0].path, "/disk");
    await vm.api.mustPut("vm.delete");
    assert.equal((await bus.call("VmInfo")).code, 1);
    assert.match((await bus.call("Nothing")).stderr, /UnknownMethod/);
    assert.equal(
      (await bus.call("VmBoot", "string:surplus")).stderr,
      "Error org.freedesktop.DBus.Error.Failed: The VM could not boot",
    );
  },
);

testWith(NEEDS, "D-Bus: calls are counted beside those of the REST API", async () => {
  await using bus = await MessageBus.start();
  await using vm = await bus.startVm("nephos");
  await vm.api.get("vm.info");
  await bus.call("VmInfo");
  await bus.call("VmInfo");
  await bus.call("VmCreate", "string:{");
  await bus.call("VmCreate", "uint32:1");
  await bus.call("VmCreate", 'string:{"console":{"mode":"Null"},"payload":{"kernel":"/k"}}');
  await bus.call("VmAddDisk", 'string:{"path":"/disk"}');
  await bus.call("VmInfo");
  await bus.call("Nothing");
  await bus.run("gdbus", ["introspect", "--session", "--dest", SERVICE, "--object-path", OBJECT]);
  assert.equal(await longCall(bus.address), "org.freedesktop.DBus.Error.LimitsExceeded");
  const families = readExposition((await vm.api.get("/metrics")).body);
  const samples = (name: string) =>
    families.get(name)!.samples.map(({ labels, value }) => ({ ...labels, value }));
  const sorted = (list: object[]) => list.map((item) => JSON.stringify(item)).sort();
  assert.deepEqual(
    // The start of the test has asked vmm.ping until it was answered.
    sorted(samples("nephos_api_requests_total")).filter((sample) => !sample.includes("vmm.ping")),
    sorted([
      { door: "http", endpoint: "vm.info", status: "404", value: 1 },
      { door: "dbus", endpoint: "vm.info", status: "404", value: 2 },
      { door: "dbus", endpoint: "vm.info", status: "200", value: 1 },
      { door: "dbus", endpoint: "vm.create", status: "400", value: 2 },
      { door: "dbus", endpoint: "vm.create", status: "204", value: 1 },
      { door: "dbus", endpoint: "vm.add-disk", status: "204", value: 1 },
      { door: "dbus", endpoint: "unknown", status: "404", value: 1 },
    ]),
  );
  assert.deepEqual(samples("nephos_api_refused_total"), [{ door: "dbus", reason: "too_long", value: 1 }]);
});

testWith(NEEDS, "D-Bus: gdbus and busctl find every method and the signal", async () => {
  await using bus = await MessageBus.start();
  await using _vm = await bus.startVm();
  const { stdout } = await bus.run("gdbus", [
    "introspect",
    "--session",
    "--dest",
    SERVICE,
    "--object-path",
    OBJECT,
  ]);
  assert.match(stdout, /VmAddNet\(in\s+s net_config,/);
  assert.match(stdout, /Event\(s event\)/);
  assert.equal(stdout.match(/^ {6}Vmm?[A-Z]\w+\(/gm)?.length, 31);
  const ping = await bus.run("busctl", [
    `--address=${bus.address}`,
    "call",
    SERVICE,
    OBJECT,
    INTERFACE,
    "VmmPing",
  ]);
  assert.match(ping.stdout, /^s "\{\\"build_version\\"/);
  const tree = await bus.run("busctl", [`--address=${bus.address}`, "tree", SERVICE]);
  assert.match(tree.stdout, /org\/example\/Vm/);
});

testWith(NEEDS, "D-Bus: events come as signals, in order", async () => {
  await using bus = await MessageBus.start();
  await using _vm = await bus.startVm();
  await using monitor = bus.monitor();
  await eventually("the monitor", () => monitor.text.includes("is owned by"));
  await bus.call("VmCreate", 'string:{"console":{"mode":"Null"}}');
  await bus.call("VmBoot");
  await bus.call("VmDelete");
  await eventually("the last signal", () => monitor.text.includes('"deleted"'));
  assert.deepEqual(monitor.events(), ["booting", "deleted"]);
});

testWith(NEEDS, "D-Bus: a bus that does not read loses events, and gets those to come", async () => {
  await using bus = await MessageBus.start();
  await using vm = await bus.startVm();
  await using monitor = bus.monitor();
  await eventually("the monitor", () => monitor.text.includes("is owned by"));
  const cycle = async () => {
    await vm.api.mustPut("vm.create", { console: { mode: "Null" }, payload: { kernel: "/nowhere" } });
    assert.equal((await vm.api.put("vm.boot")).status, 500);
    await vm.api.mustPut("vm.delete");
  };
  const signalled = () => monitor.events().filter((name) => name === "deleted").length;
  bus.daemon.kill("SIGSTOP");
  for (let i = 0; i < CYCLES; i++) await cycle();
  assert.match(vm.stderr.text, /Event not signalled on D-Bus/);
  bus.daemon.kill("SIGCONT");
  await eventually("those that were kept", () => monitor.events().length >= KEPT);
  const kept = signalled();
  await eventually("a later signal", async () => {
    await cycle();
    return signalled() > kept;
  });
  assert.ok(kept < CYCLES, String(kept));
});

testWith(NEEDS, "D-Bus: a name that is taken is an error at start", async () => {
  await using bus = await MessageBus.start();
  await using first = await bus.startVm();
  const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, {
    args: ["--dbus-service-name", SERVICE, "--dbus-object-path", OBJECT],
    env: { DBUS_SESSION_BUS_ADDRESS: bus.address },
    stdin: "null",
  }).output();
  assert.equal(code, 1);
  assert.match(new TextDecoder().decode(stderr), /D-Bus service name "org\.example\.Vm" is already in use/);
  assert.equal(JSON.parse((await bus.call("VmmPing")).stdout).pid, first.pid);
});

testWith(NEEDS, "D-Bus: what keeps it from starting is told, and nothing is left behind", async () => {
  await using bus = await MessageBus.start();
  const nowhere = `unix:path=${bus.directory}/none`;
  const cases = [
    {
      address: nowhere,
      reason: `Failed to connect to address \`${nowhere}\`: No such file or directory (os error 2)`,
    },
    { address: "nonsense", reason: 'Cannot use the bus address "nonsense"' },
    { name: "nonsense", reason: '"nonsense" is no well-known name' },
    { path: "/a//b", reason: '"/a//b" is no object path' },
  ];
  for (const { address = bus.address, name = SERVICE, path = OBJECT, reason } of cases) {
    const socket = `${bus.directory}/api`;
    const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, {
      args: ["--api-socket", socket, "--dbus-service-name", name, "--dbus-object-path", path],
      env: { DBUS_SESSION_BUS_ADDRESS: address },
      stdin: "null",
    }).output();
    assert.equal(code, 1);
    const lines = new TextDecoder().decode(stderr).split("\n  ").slice(1);
    assert.deepEqual(lines.slice(0, 2), [
      "0: Failed to start the VMM thread",
      "1: Error starting D-Bus session",
    ]);
    assert.ok(lines[2].startsWith(`2: ${reason}`), lines[2]);
    await assert.rejects(Deno.lstat(socket), Deno.errors.NotFound);
  }
});

testWith(NEEDS, "D-Bus: VmmShutdown is answered, then the program ends with code 0", async () => {
  await using bus = await MessageBus.start();
  await using vm = await bus.startVm();
  assert.deepEqual(await bus.call("VmmShutdown"), { code: 0, stdout: "", stderr: "" });
  assert.equal((await vm.waitForExit()).code, 0);
});

testWith(
  { ...NEEDS, kvm: true },
  "D-Bus and HTTP share one VM: calls of both take their turns, and the signals tell of all of them",
  async () => {
    await using bus = await MessageBus.start();
    await using vm = await bus.startVm();
    await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(HALT));
    await using monitor = bus.monitor();
    await eventually("the monitor", () => monitor.text.includes("is owned by"));
    const config = {
      payload: { kernel: `${vm.directory}/kernel` },
      memory: { size: 64 << 20 },
      serial: { mode: "Null" },
      console: { mode: "Off" },
    };
    assert.equal((await bus.call("VmCreate", `string:${JSON.stringify(config)}`)).stderr, "");
    await vm.api.mustPut("vm.boot");
    const gdbus = (method: string) =>
      bus.run("gdbus", [
        "call",
        "--session",
        "--dest",
        SERVICE,
        "--object-path",
        OBJECT,
        "--method",
        `${INTERFACE}.${method}`,
      ]);
    const busctl = (method: string) =>
      bus.run("busctl", [`--address=${bus.address}`, "call", SERVICE, OBJECT, INTERFACE, method]);
    for (let round = 0; round < 5; round++) {
      assert.equal((await gdbus("VmPause")).stdout, "()\n");
      assert.equal((await vm.api.info()).state, "Paused");
      await vm.api.mustPut("vm.resume");
      assert.match((await busctl("VmInfo")).stdout, /\\"state\\":\\"Running\\"/);
      // At once from all sides: each pause either pauses or finds the VM paused.
      const pauses = await Promise.all([
        vm.api.request("PUT", "vm.pause").then(({ status }) => status === 204),
        gdbus("VmPause").then(({ code }) => code === 0),
        busctl("VmPause").then(({ code }) => code === 0),
        vm.api.get("vm.info").then(({ status }) => status !== 200),
        busctl("VmmPing").then(({ code }) => code !== 0),
      ]);
      assert.equal(pauses.filter((done) => done).length, 1, JSON.stringify(pauses));
      assert.equal((await busctl("VmResume")).code, 0);
    }
    await vm.api.mustPut("vm.shutdown");
    assert.equal((await gdbus("VmDelete")).code, 0);
    await eventually("the last signal", () => monitor.text.includes('"deleted"'));
    const names = monitor.events().filter((name) => name !== "activated" && name !== "reset");
    const cycle = ["pausing", "paused", "resuming", "resumed"];
    // A pause that is refused announces itself all the same.
    const refused = ["pausing", "paused", "pausing", "pausing", "resuming", "resumed"];
    const rounds = Array.from({ length: 5 }, () => [...cycle, ...refused]).flat();
    assert.deepEqual(names, ["booting", "booted", ...rounds, "shutdown", "deleted"]);
  },
);
