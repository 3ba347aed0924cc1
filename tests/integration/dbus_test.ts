/**
 * The D-Bus API on a real message bus, called by the tools every distribution has.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true, commands: ["dbus-daemon", "busctl", "gdbus", "dbus-send"] };
const SERVICE = "org.example.Vm";
const OBJECT = "/org/example/Vm";
const INTERFACE = "org.cloudhypervisor.DBusApi1";

/** A private session bus. */
class Bus implements AsyncDisposable {
  private constructor(
    readonly directory: string,
    readonly address: string,
    readonly daemon: Deno.ChildProcess,
  ) {}

  static async start(): Promise<Bus> {
    const directory = await Deno.makeTempDir({ prefix: "nephos-bus-" });
    const path = join(directory, "bus");
    const daemon = new Deno.Command("dbus-daemon", {
      args: ["--session", "--nofork", "--nopidfile", "--nosyslog", `--address=unix:path=${path}`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await eventually("the message bus", async () => {
      try {
        (await Deno.connect({ transport: "unix", path })).close();
        return true;
      } catch {
        return false; // not bound, or not listening yet
      }
    });
    return new Bus(directory, `unix:path=${path}`, daemon);
  }

  /** Starts our program on this bus, with its REST socket beside. */
  async startVm(options: { wait?: boolean } = {}): Promise<Vm> {
    const vm = await Vm.start({
      program: "cloud-hypervisor",
      args: ["--dbus-service-name", SERVICE, "--dbus-object-path", OBJECT],
      env: { DBUS_SESSION_BUS_ADDRESS: this.address },
    });
    if (options.wait !== false) {
      await eventually("the name on the bus", async () => (await this.call("VmmPing")).code === 0);
    }
    return vm;
  }

  async run(command: string, args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const { code, stdout, stderr } = await new Deno.Command(command, {
      args,
      env: { DBUS_SESSION_BUS_ADDRESS: this.address },
      stdin: "null",
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  }

  /** Calls a method of the API; `stdout` is its string without quoting. */
  async call(method: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const result = await this.run("dbus-send", [
      "--session",
      "--print-reply=literal",
      `--dest=${SERVICE}`,
      OBJECT,
      `${INTERFACE}.${method}`,
      ...args,
    ]);
    return { ...result, stdout: result.stdout.trim(), stderr: result.stderr.trim() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill("SIGKILL");
    await this.daemon.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

testWith(
  NEEDS,
  "D-Bus: methods answer as the REST API does, errors carry the operation's words",
  async () => {
    await using bus = await Bus.start();
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

testWith(NEEDS, "D-Bus: gdbus and busctl find every method and the signal", async () => {
  await using bus = await Bus.start();
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
  await using bus = await Bus.start();
  await using _vm = await bus.startVm();
  const monitor = new Deno.Command("gdbus", {
    args: ["monitor", "--session", "--dest", SERVICE, "--object-path", OBJECT],
    env: { DBUS_SESSION_BUS_ADDRESS: bus.address },
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let text = "";
  const reading = (async () => {
    for await (const part of monitor.stdout) text += new TextDecoder().decode(part);
  })();
  await eventually("the monitor", () => text.includes("is owned by"));
  await bus.call("VmCreate", 'string:{"console":{"mode":"Null"}}');
  await bus.call("VmBoot");
  await bus.call("VmDelete");
  await eventually("the last signal", () => text.includes('"deleted"'));
  monitor.kill("SIGKILL");
  await Promise.all([reading, monitor.status]);
  const names = Array.from(text.matchAll(/DBusApi1\.Event .*?"event": "(\w+)"/g), ([, name]) => name);
  assert.deepEqual(names, ["booting", "deleted"]);
});

testWith(NEEDS, "D-Bus: a name that is taken is an error at start", async () => {
  await using bus = await Bus.start();
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

testWith(NEEDS, "D-Bus: VmmShutdown is answered, then the program ends with code 0", async () => {
  await using bus = await Bus.start();
  await using vm = await bus.startVm();
  assert.deepEqual(await bus.call("VmmShutdown"), { code: 0, stdout: "", stderr: "" });
  assert.equal((await vm.waitForExit()).code, 0);
});
