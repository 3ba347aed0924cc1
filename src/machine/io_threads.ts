/**
 * The I/O Workers of a VM: the first one, and those that single queues have to themselves.
 *
 * L5, main isolate. Orders go to whoever serves the device they concern, or to all. Further Workers start once the VM runs:
 * what a guest asks of their queues meanwhile waits in the rings. A back-end that never answers must not hang the VMM: every
 * wait for a Worker has an end. Source: docs/adr/0010-io-workers.md.
 */
import { close, eventfd } from "@ffi/libc/fd.ts";
import { signalEvent } from "@ffi/libc/io.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import type { DeviceShare, IoStart, RegionDescription } from "./io_worker.ts";
import { placeQueues, spareThreads, type ThreadWish } from "./io_placement.ts";
import type { FunctionDescription } from "./pci_functions.ts";
import { endWorker, retireWorker, takeWorker } from "./worker_pool.ts";
import type { WorkerPort } from "./worker_port.ts";

/** What a thread starts from, but for itself. */
export type IoMachine = Omit<IoStart, "name" | "wakeFd" | "devices" | "cpus">;

/** Who has something for an I/O Worker to do. */
export interface IoCalls {
  call<T = void>(method: string, payload?: unknown): Promise<T>;
}

/** Longest wait for requests in flight when a VM pauses or stops. */
const DRAIN_TIMEOUT_MS = 30_000;
const FIRST_NAME = "io0";

/** Overrides how many threads queues are spread to beside the first one. */
const SPARE_VARIABLE = "NEPHOS_SPARE_IO_THREADS";

function configuredSpare(): number {
  // A program that embeds us may not be allowed to read it.
  const isReadable =
    Deno.permissions.querySync({ name: "env", variable: SPARE_VARIABLE }).state === "granted";
  const text = isReadable ? Deno.env.get(SPARE_VARIABLE) : undefined;
  const byHost = spareThreads(navigator.hardwareConcurrency);
  return text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : byHost;
}

interface IoThread {
  readonly name: string;
  readonly wakeFd: number;
  readonly wish?: ThreadWish;
  /** Shares it starts with; empty once it runs. */
  readonly waiting: DeviceShare[];
  port?: WorkerPort;
}

interface Placed {
  /** By share, the leading one first. */
  readonly threads: readonly IoThread[];
}

/** Where Workers come from and go to. */
export interface WorkerSource {
  take(): Promise<WorkerPort>;
  retire(port: WorkerPort, reusable: boolean): Promise<void>;
  end(port: WorkerPort): void;
}

const POOL: WorkerSource = {
  take: () => takeWorker("io"),
  retire: (port, reusable) => retireWorker("io", port, reusable),
  end: endWorker,
};

/** What `IoThreads` is made of. */
export interface IoThreadsOptions {
  readonly first: Promise<WorkerPort>;
  readonly firstWakeFd: number;
  readonly onEvent: (event: GuestEvent) => void;
  /** Threads that may be made for queues nobody asked a thread for. */
  readonly spare?: number;
  readonly workers?: WorkerSource;
  readonly drainTimeoutMs?: number;
}

/** See the module. */
export class IoThreads implements IoCalls {
  readonly #first: IoThread;
  readonly #more = new Set<IoThread>();
  readonly #placed = new Map<string, Placed>();
  readonly #workers: WorkerSource;
  readonly #drainTimeoutMs: number;
  #spare: number;
  #machine: IoMachine | undefined;
  /** Further threads are there, and serve. */
  #ready: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: IoThreadsOptions) {
    this.#first = { name: FIRST_NAME, wakeFd: options.firstWakeFd, waiting: [] };
    this.#spare = options.spare ?? configuredSpare();
    this.#workers = options.workers ?? POOL;
    this.#drainTimeoutMs = options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS;
  }

  /** Decides who serves a device. Before its function is given to vCPUs: see `withWake`. */
  place(descriptor: VirtioDeviceDescriptor): void {
    const { shares, warnings } = placeQueues(descriptor, this.#spare);
    for (const text of warnings) this.#log("warn", text);
    const threads = shares.map(({ thread }) => {
      if (thread === undefined) return this.#first;
      if (thread.cpus === undefined) this.#spare--;
      const made: IoThread = { name: thread.name, wakeFd: eventfd(), wish: thread, waiting: [] };
      this.#more.add(made);
      return made;
    });
    const running = new SharedArrayBuffer(threads.length * Int32Array.BYTES_PER_ELEMENT);
    const wakeFds = threads.map((thread) => thread.wakeFd);
    shares.forEach(({ queues }, number) => {
      const share = threads.length === 1 ? undefined : { number, queues, running, wakeFds };
      threads[number].waiting.push({ descriptor, share });
    });
    this.#placed.set(descriptor.id, { threads });
  }

  /** A function as vCPUs get it: with the descriptor that wakes who serves it, where that is not the first Worker. */
  withWake(fn: FunctionDescription): FunctionDescription {
    const leader = this.#placed.get(fn.id)?.threads[0];
    return leader === undefined || leader === this.#first ? fn : { ...fn, wakeFd: leader.wakeFd };
  }

  /** Starts the first Worker; further ones follow by themselves. @throws WorkerError */
  async start(machine: IoMachine): Promise<void> {
    this.#machine = machine;
    await this.#start(this.#first, await this.options.first);
    if (this.#more.size === 0) return;
    // Making an isolate keeps main busy: whoever asked for the boot is answered first.
    this.#ready = new Promise((resolve) => setTimeout(resolve, 0)).then(() => this.#startMore()).catch((
      error,
    ) => this.options.onEvent({ kind: "fatal", text: `I/O Worker: ${(error as Error).message}` }));
  }

  async #startMore(): Promise<void> {
    await Promise.all(
      [...this.#more].filter(({ port }) => port === undefined).map(async (thread) =>
        this.#start(thread, await this.#workers.take())
      ),
    );
  }

  async #start(thread: IoThread, port: WorkerPort): Promise<void> {
    const { onEvent } = this.options;
    port.setKick(() => signalEvent(thread.wakeFd));
    port.onEvent = (event) => onEvent(event as GuestEvent);
    port.onDeath = (text) => onEvent({ kind: "fatal", text: `I/O Worker ${thread.name}: ${text}` });
    thread.port = port;
    const devices = thread.waiting.splice(0);
    const { name, wakeFd, wish } = thread;
    const own = thread === this.#first
      ? this.#machine!
      : { ...this.#machine!, serial: undefined, outputs: [], fwCfg: undefined, tpm: undefined };
    await port.call("start", { ...own, name, wakeFd, cpus: wish?.cpus, devices } satisfies IoStart);
  }

  /** Has an order carried out by whom it concerns; before the start by nobody. @throws WorkerError, ContextError */
  async call<T = void>(method: string, payload?: unknown): Promise<T> {
    if (this.#machine === undefined) return undefined as T;
    switch (method) {
      case "pause":
        return await this.#pause() as T;
      case "resume":
        return await this.#all("resume") as T;
      case "addRegion":
        this.#machine = {
          ...this.#machine,
          regions: [...this.#machine.regions, payload as RegionDescription],
        };
        return await this.#all(method, payload) as T;
      case "addDevice":
        return await this.#addDevice(payload as VirtioDeviceDescriptor) as T;
      case "removeDevice":
        return await this.#removeDevice(payload as string) as T;
      case "command":
        return await this.#command<T>(payload as { id: string; command: { kind: string } });
      case "windowChanged":
        return await this.#leader(payload as string).call<T>(method, payload);
      default:
        return await this.#first.port!.call<T>(method, payload);
    }
  }

  /** Stops everything and gives the Workers back. False: some thread still uses guest memory or a back-end. Never throws. */
  async shutdown(): Promise<boolean> {
    const wasStarted = this.#machine !== undefined;
    await this.#within(this.#ready);
    this.#machine = undefined;
    const first = await this.options.first.catch(() => undefined);
    this.#first.port ??= first;
    const stopped = await Promise.all(
      [this.#first, ...this.#more].map((thread) => this.#stop(thread, wasStarted)),
    );
    this.#more.clear();
    this.#placed.clear();
    return !stopped.includes(false);
  }

  async #stop(thread: IoThread, wasStarted: boolean): Promise<boolean> {
    const { port, wish, name, wakeFd } = thread;
    let answered = true;
    if (port !== undefined) {
      if (wasStarted && !port.isDead) {
        answered = await this.#within(port.call("stop").catch(() => {}));
      }
      if (answered) {
        // A thread that was bound to host CPUs stays bound.
        await this.#workers.retire(port, wish?.cpus === undefined);
      } else {
        this.#log("error", `I/O thread ${name} does not stop: its back-end does not answer`);
        this.#workers.end(port);
      }
    }
    if (answered && thread !== this.#first) close(wakeFd);
    return answered;
  }

  get #ports(): WorkerPort[] {
    return [this.#first, ...this.#more].flatMap(({ port }) => port ?? []);
  }

  async #all(method: string, payload?: unknown): Promise<void> {
    await this.#ready;
    await Promise.all(this.#ports.map((port) => port.call(method, payload)));
  }

  /** Nothing is in flight afterwards, or everything goes on as before. @throws ContextError */
  async #pause(): Promise<void> {
    await this.#ready;
    const threads = [this.#first, ...this.#more];
    const answers = await Promise.all(threads.map(async ({ port, name }) => {
      const answered = port === undefined || await this.#within(port.call("pause"));
      return answered ? [] : [name];
    }));
    const late = answers.flat();
    if (late.length === 0) return;
    // Who is late pauses when its back-end answers at last: this is behind that in its mailbox.
    for (const port of this.#ports) void port.call("resume").catch(() => {});
    const seconds = this.#drainTimeoutMs / 1000;
    throw new ContextError(
      [`I/O thread ${late.join(", ")} does not finish what is in flight`],
      new Error(`its back-end has not answered for ${seconds} s`),
    );
  }

  async #addDevice(descriptor: VirtioDeviceDescriptor): Promise<void> {
    if (!this.#placed.has(descriptor.id)) this.place(descriptor);
    await this.#ready;
    await this.#startMore();
    const device = this.#first.waiting.splice(0);
    for (const share of device) await this.#first.port!.call("addDevice", share);
  }

  async #removeDevice(id: string): Promise<void> {
    const placed = this.#placed.get(id);
    if (placed === undefined) return;
    await this.#ready;
    for (const thread of placed.threads.toReversed()) {
      const waits = thread.waiting.findIndex(({ descriptor }) => descriptor.id === id);
      if (waits >= 0) thread.waiting.splice(waits, 1);
      await thread.port?.call("removeDevice", id);
      if (thread === this.#first) continue;
      if (thread.wish?.cpus === undefined) this.#spare++;
      this.#more.delete(thread);
      await this.#stop(thread, true);
    }
    this.#placed.delete(id);
  }

  /** A new size is known to every share before the guest is told by the leading one. */
  async #command<T>(order: { id: string; command: { kind: string } }): Promise<T> {
    const threads = this.#placed.get(order.id)?.threads ?? [this.#first];
    await this.#ready;
    if (order.command.kind === "resize") {
      for (const { port } of threads.slice(1)) {
        const reply = await port?.call<{ result?: number } | undefined>("command", order);
        if (reply === undefined || (reply.result ?? 0) < 0) return reply as T;
      }
    }
    return await threads[0].port!.call<T>("command", order);
  }

  #leader(id: string): WorkerPort {
    return (this.#placed.get(id)?.threads[0] ?? this.#first).port!;
  }

  /** Waits for `work`; false when that takes too long. @throws what `work` does */
  async #within(work: Promise<unknown>): Promise<boolean> {
    const late = Promise.withResolvers<false>();
    const timer = setTimeout(() => late.resolve(false), this.#drainTimeoutMs);
    try {
      return await Promise.race([work.then(() => true), late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #log(level: "warn" | "error", text: string): void {
    this.options.onEvent({ kind: "log", level, key: text, text });
  }
}
