/**
 * What conformance tests talk to: the router and control loop in this process over a fake VM, or a program on its socket.
 *
 * Tests only.
 */
import { join } from "node:path";
import { makeRouter, type Router } from "@vmm/api/router.ts";
import { ControlLoop } from "@vmm/api/control_loop.ts";
import { makeConfigTools } from "@vmm/api/schema_tools.ts";
import * as bodyReader from "@vmm/api/body_reader.ts";
import { FakeVmFactory } from "@vmm/api/testing/fake_vm.ts";
import { HostError } from "@vmm/errors/host_error.ts";
import { RequestCounters } from "@vmm/log/counters.ts";
import { EventStream } from "@vmm/log/events.ts";
import { log } from "@vmm/log/logger.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { DeadlineError, eventually, HOST_TIMEOUT_MS, scaled } from "@tests/framework/deadline.ts";
import type { ProgramName } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { configuration, type Reachable } from "./cases.ts";

/** Below every level: refused requests are what the tests are about. */
const SILENT = -2;

/** An answer. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A VMM that can be brought into any situation. */
export interface ApiTarget extends AsyncDisposable {
  /** Directory that `{dir}` stands for; holds `kernel` and `disk`. */
  readonly directory: string;
  /** Whether a real machine answers. */
  readonly real: boolean;
  request(method: string, operation: string, body?: unknown): Promise<Answer>;
  /** Names of the events since the last call, as `vm/booted`. */
  events(): Promise<string[]>;
  /** True once the VMM has ended. */
  ended(): Promise<boolean>;
  /** Boots to the breakpoint at which a VM under a debugger waits. */
  bootDebugged(): Promise<void>;
}

/** Value with `{dir}` replaced in every text. */
export function inDirectory<T>(value: T, directory: string): T {
  return value === undefined ? value : JSON.parse(JSON.stringify(value).replaceAll("{dir}", directory));
}

async function must(target: ApiTarget, operation: string, body?: unknown): Promise<void> {
  const { status, body: text } = await target.request("PUT", operation, body);
  if (status >= 300) throw new Error(`${operation} answered ${status} ${text}`);
}

/** The event that ends the way to a situation. */
const LAST_EVENT: Partial<Record<Reachable, string>> = {
  running: "vm/booted",
  paused: "vm/paused",
  breakpoint: "vm/booted",
};

/** Brings `target` into a situation, from any other; its events are taken away. */
export async function reach(target: ApiTarget, situation: Reachable): Promise<void> {
  await must(target, "vm.delete");
  if (situation !== "absent") {
    const kernel = situation === "created" ? "{dir}/missing" : "{dir}/kernel";
    const config = { ...configuration(kernel), gdb: situation === "breakpoint" };
    await must(target, "vm.create", inDirectory(config, target.directory));
  }
  if (situation === "created") await target.request("PUT", "vm.boot");
  if (situation === "running" || situation === "paused") await must(target, "vm.boot");
  if (situation === "paused") await must(target, "vm.pause");
  if (situation === "breakpoint") await target.bootDebugged();
  // The original writes its events after its answers: what belongs to the way here must not be taken for what follows.
  const last = LAST_EVENT[situation];
  const seen: string[] = [];
  await eventually(`the event ${last}`, async () => {
    seen.push(...await target.events());
    return last === undefined || seen.includes(last);
  });
}

/** Router and control loop over a fake VM. */
export class InProcessTarget implements ApiTarget {
  readonly directory = "/nowhere";
  readonly real = false;
  readonly factory = new FakeVmFactory();
  readonly #events: string[] = [];
  readonly #router: Router;
  readonly #end: Promise<void>;
  readonly loop: ControlLoop;
  #ended = false;

  constructor(options: { noShutdown?: boolean; onClose?: (fd: number) => void } = {}) {
    log.configure({ verbosity: SILENT });
    const events = new EventStream();
    events.subscribe(({ source, event }) => this.#events.push(`${source}/${event}`));
    const host = { pathExists: () => true, fileSizeBytes: () => 1n << 20n };
    this.loop = new ControlLoop({
      factory: () => Promise.resolve(this.factory),
      tools: () => Promise.resolve(makeConfigTools(host)),
      events,
      build: { buildVersion: "v54.0.0", version: "54.0.0", pid: 1, features: ["kvm"] },
      closeDescriptor: options.onClose ?? (() => {}),
      noShutdown: options.noShutdown ?? false,
    });
    this.#router = makeRouter({
      send: this.loop.send,
      bodyReader: () => Promise.resolve(bodyReader),
      counters: new RequestCounters(),
    });
    this.#end = this.loop.run().then(() => {
      this.#ended = true;
    });
  }

  get router(): Router {
    return this.#router;
  }

  async request(method: string, operation: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
    // A kernel that is not there fails at the same step as in a real VM.
    if (operation === "vm.create") {
      if (text.includes("/missing")) this.factory.failures.set("boot", missingKernel());
      else this.factory.failures.delete("boot");
    }
    const answer = await this.#router({
      method,
      path: `/api/v1/${operation}`,
      body: new TextEncoder().encode(text),
    });
    return { status: answer.status, body: answer.body ?? "" };
  }

  events(): Promise<string[]> {
    return Promise.resolve(this.#events.splice(0));
  }

  async bootDebugged(): Promise<void> {
    await must(this, "vm.boot");
    this.factory.current!.state = "BreakPoint";
  }

  async ended(): Promise<boolean> {
    await this.#end;
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.loop.requestExit("end of test");
    await this.#end;
  }
}

function missingKernel(): HostError {
  return new HostError({
    messages: ["Cannot open kernel file"],
    errnoName: "ENOENT",
    errno: 2,
    errnoText: "No such file or directory",
    call: "open",
    path: "/missing",
  });
}

/** A program on its socket. */
export class ProgramTarget implements ApiTarget {
  readonly real = true;
  #seen = 0;

  private constructor(readonly vm: Vm) {}

  /** Starts `program` with an event monitor, a small kernel and a disk. */
  static async start(program: ProgramName, args: string[] = []): Promise<ProgramTarget> {
    const vm = await Vm.start({ program, events: true, args });
    await Deno.writeFile(join(vm.directory, "kernel"), pvhElf(HALT));
    await Deno.writeFile(join(vm.directory, "disk"), new Uint8Array(1 << 20));
    return new ProgramTarget(vm);
  }

  get directory(): string {
    return this.vm.directory;
  }

  async bootDebugged(): Promise<void> {
    await must(this, "vm.boot");
  }

  async request(method: string, operation: string, body?: unknown): Promise<Answer> {
    const silence = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      // Without its socket's other end the client's read would last as long as the program.
      this.vm.kill("SIGKILL");
      silence.reject(new DeadlineError(`No answer to ${operation}`));
    }, scaled(HOST_TIMEOUT_MS));
    try {
      const answer = this.vm.api.request(method, operation, body);
      answer.catch(() => {});
      const { status, body: text } = await Promise.race([answer, silence.promise]);
      return { status, body: text };
    } finally {
      clearTimeout(timer);
    }
  }

  async events(): Promise<string[]> {
    const all = await this.vm.events.names();
    // Devices report in their own time; the order of everything else is the API's.
    const fresh = all.slice(this.#seen).filter((name) => !name.startsWith("virtio-device/"));
    this.#seen = all.length;
    return fresh;
  }

  async ended(): Promise<boolean> {
    return (await this.vm.waitForExit()).code === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
  }
}
