/**
 * A private message bus with a VMM on it, and the tools every distribution has to talk to it.
 *
 * Test framework.
 *
 * @module
 */
import { join } from "node:path";
import { eventually } from "./deadline.ts";
import type { ProgramName } from "./programs.ts";
import { Vm } from "./vm.ts";

/** Commands it needs. */
export const BUS_COMMANDS = ["dbus-daemon", "busctl", "gdbus", "dbus-send"];
/** Name on the bus. */
export const SERVICE = "org.example.Vm";
/** Path of its object. */
export const OBJECT = "/org/example/Vm";
/** Interface of the API. */
export const INTERFACE = "org.cloudhypervisor.DBusApi1";

/** A private session bus. */
export class MessageBus implements AsyncDisposable {
  private constructor(
    readonly directory: string,
    readonly address: string,
    readonly daemon: Deno.ChildProcess,
  ) {}

  static async start(): Promise<MessageBus> {
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
    return new MessageBus(directory, `unix:path=${path}`, daemon);
  }

  /** Starts a program on this bus, with its REST socket beside; returns when it answers on both. */
  async startVm(program: ProgramName = "cloud-hypervisor"): Promise<Vm> {
    const vm = await Vm.start({
      program,
      args: ["--dbus-service-name", SERVICE, "--dbus-object-path", OBJECT],
      env: { DBUS_SESSION_BUS_ADDRESS: this.address },
    });
    await eventually("the name on the bus", async () => (await this.call("VmmPing")).code === 0);
    return vm;
  }

  /** Runs one of the tools on this bus. */
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

  /** Watches the signals of the API's object. */
  monitor(): BusMonitor {
    return new BusMonitor(
      new Deno.Command("gdbus", {
        args: ["monitor", "--session", "--dest", SERVICE, "--object-path", OBJECT],
        env: { DBUS_SESSION_BUS_ADDRESS: this.address },
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill("SIGKILL");
    await this.daemon.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** What `gdbus monitor` prints. */
export class BusMonitor implements AsyncDisposable {
  /** So far. */
  text = "";
  readonly #reading: Promise<void>;

  constructor(private readonly process: Deno.ChildProcess) {
    this.#reading = (async () => {
      for await (const part of process.stdout) this.text += new TextDecoder().decode(part);
    })();
  }

  /** Names of the events signalled so far. */
  events(): string[] {
    return Array.from(this.text.matchAll(/DBusApi1\.Event .*?"event": "([\w-]+)"/g), ([, name]) => name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await Promise.all([this.#reading, this.process.status]);
  }
}
