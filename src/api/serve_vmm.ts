/**
 * The VMM as a program: front doors, control loop, signals, and the VM of the command line.
 *
 * L6, main isolate. What is not needed to answer `vmm.ping` is loaded after the program listens.
 * Source: spec/cli.md §3, spec/rest-api.md §1.
 */
import { COMPATIBLE_BUILD_VERSION, COMPATIBLE_VERSION, FEATURES, NEPHOS_VERSION } from "@vmm/base/version.ts";
import type { PathOrFd, Personality, RunCommand } from "@vmm/cli/command_result.ts";
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import { RequestCounters } from "@vmm/log/counters.ts";
import { EventStream } from "@vmm/log/events.ts";
import { log } from "@vmm/log/logger.ts";
import type { KvmVmFactory } from "@vmm/machine/vm_factory.ts";
import { startBanner } from "./banner.ts";
import type { ApiCommand } from "./command.ts";
import { ControlLoop, type ExitStatus } from "./control_loop.ts";
import { serveUnix } from "./deno_serve.ts";
import { makeExtras } from "./extras.ts";
import type { FrontDoor } from "./front_door.ts";
import { adoptListener, claimPath, listenOn } from "./http1/serve_socket.ts";
import { Http1Server } from "./http1/server.ts";
import { makeRouter } from "./router.ts";

/** Time for whatever is under way when the program is asked to end; then it ends anyway. */
const EXIT_PATIENCE_MS = 10_000;
/** Time for answers being given at the end. */
const CLOSE_PATIENCE_MS = 1_500;
/** The first client shall not wait for what only the first VM needs. */
const WARM_UP_DELAY_MS = 20;

let factory: Promise<KvmVmFactory> | undefined;
const loadFactory = (): Promise<KvmVmFactory> =>
  factory ??= import("@vmm/machine/vm_factory.ts").then(({ KvmVmFactory }) => new KvmVmFactory());

const loadTools = async () => {
  const { makeConfigTools } = await import("./schema_tools.ts");
  const { hostFiles } = await import("./host_files.ts");
  return makeConfigTools(hostFiles);
};

const pause = (timeMs: number) => new Promise<void>((resolve) => setTimeout(resolve, timeMs));

/** What the program needs from outside this layer. */
export interface ServeHost {
  /** Closes a descriptor the configuration kept. */
  readonly closeDescriptor: (fd: number) => void;
}

/** A front door, and how to remove what it left in the file system. */
interface OpenApi {
  readonly door: FrontDoor;
  readonly remove: () => void;
}

/** One running program. */
class Program {
  readonly #events = new EventStream();
  readonly #counters = new RequestCounters();
  readonly #loop: ControlLoop;
  readonly #doors: OpenApi[] = [];

  constructor(
    private readonly command: RunCommand,
    private readonly personality: Personality,
    host: ServeHost,
  ) {
    this.#loop = new ControlLoop({
      factory: loadFactory,
      tools: loadTools,
      events: this.#events,
      build: {
        buildVersion: COMPATIBLE_BUILD_VERSION,
        version: COMPATIBLE_VERSION,
        pid: Deno.pid,
        features: FEATURES,
      },
      closeDescriptor: host.closeDescriptor,
      noShutdown: command.vmm.noShutdown,
    });
  }

  /** Runs to the end. @throws what kept it from starting */
  async run(): Promise<ExitStatus> {
    const { vmm, vm } = this.command;
    if (vmm.gdbSocket !== undefined) throw new UnsupportedError("--gdb", "there is no debugger stub yet");
    if (vmm.eventMonitor !== undefined) await this.#openEventMonitor(vmm.eventMonitor);
    this.#events.emit("vmm", "starting");
    const ended = this.#loop.run();
    if (vmm.apiSocket !== undefined) {
      try {
        this.#doors.push(this.#listen(vmm.apiSocket));
      } catch (cause) {
        throw new Error("Failed to start the VMM thread", { cause });
      }
    }
    if (vmm.dbus !== undefined) await this.#offerOnBus();
    this.#catchSignals();
    if (this.personality === "nephos") this.#showBanner();
    const failed = this.#startVm();
    if (vm === undefined) this.#warmUp();
    const status = await Promise.race([ended, failed]);
    await this.#close(status.code === 0);
    return status;
  }

  async #openEventMonitor(output: PathOrFd): Promise<void> {
    const { EventSink } = await import("@vmm/log/event_sink.ts");
    try {
      const sink = output.kind === "path"
        ? EventSink.openPath(output.path)
        : EventSink.useDescriptor(output.fd);
      this.#events.subscribe((event) => sink.write(event));
    } catch (cause) {
      throw new Error("Error doing event monitor I/O", { cause });
    }
  }

  /** Listens, in the dialect of the personality; a descriptor can be served by the drop-in dialect only. */
  #listen(place: PathOrFd): OpenApi {
    const router = makeRouter({
      send: this.#loop.send,
      bodyReader: () => import("./body_reader.ts"),
      counters: this.#counters,
    });
    if (place.kind === "path" && this.personality === "nephos") {
      const claimed = claimPath(place.path);
      const extras = makeExtras({
        counters: this.#counters,
        figures: () => this.#loop.figures(),
        events: this.#events,
        version: NEPHOS_VERSION,
      });
      return { door: serveUnix(claimed.path, router, extras), remove: claimed.remove };
    }
    const claimed = place.kind === "path" ? claimPath(place.path) : undefined;
    const listener = claimed === undefined ? adoptListener((place as { fd: number }).fd) : listenOn(claimed);
    const server = new Http1Server(listener, router);
    server.run();
    return { door: server, remove: claimed?.remove ?? (() => {}) };
  }

  async #offerOnBus(): Promise<void> {
    const { serveDbus } = await import("./dbus/serve_dbus.ts");
    const bodyReader = await import("./body_reader.ts");
    const door = await serveDbus(this.command.vmm.dbus!, this.#loop.send, bodyReader, this.#events);
    this.#doors.push({ door, remove: () => {} });
  }

  #catchSignals(): void {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      Deno.addSignalListener(signal, () => {
        this.#loop.requestExit(`Received ${signal}`);
        setTimeout(() => {
          log.error(`Ending after ${signal} although an operation is still under way`);
          Deno.exit(1);
        }, EXIT_PATIENCE_MS);
      });
    }
    Deno.addSignalListener("SIGWINCH", () => {
      factory?.then((machine) => machine.windowChanged()).catch((error) => log.warn(`Window size: ${error}`));
    });
  }

  #showBanner(): void {
    const { vmm: { apiSocket }, vm } = this.command;
    const server = apiSocket?.kind === "fd" ? `descriptor ${apiSocket.fd}` : apiSocket?.path;
    Deno.stderr.writeSync(new TextEncoder().encode(startBanner(server, vm)));
  }

  /** Creates and boots, or restores, what the command line describes; settles only if that fails. */
  #startVm(): Promise<ExitStatus> {
    const { vm, restore } = this.command;
    const send = (message: string, command: ApiCommand) =>
      this.#loop.send(command).catch((cause) => {
        throw new Error(message, { cause });
      });
    const steps = async (): Promise<void> => {
      if (vm !== undefined) {
        await send("Error creating VM", { operation: "vm.create", body: vm });
        await send("Error booting VM", { operation: "vm.boot", body: undefined });
      } else if (restore !== undefined) {
        await send("Error restoring VM", { operation: "vm.restore", body: restore });
      }
    };
    return new Promise((resolve) => {
      steps().catch(async (error) => {
        await this.#loop.send({ operation: "vm.delete", body: undefined }).catch(() => {});
        resolve({ code: 1, error });
      });
    });
  }

  /** Loads what the first VM will need, in small steps so that requests get their turn. */
  async #warmUp(): Promise<void> {
    try {
      await pause(WARM_UP_DELAY_MS);
      const { warmUp } = await import("@vmm/machine/warm_up.ts");
      await warmUp();
      await import("./body_reader.ts");
      await import("./schema_tools.ts");
      await loadFactory();
    } catch (error) {
      log.warn(`Warm-up: ${error instanceof Error ? error.message : error}`);
    }
  }

  async #close(clean: boolean): Promise<void> {
    await Promise.race([Promise.all(this.#doors.map(({ door }) => door.close())), pause(CLOSE_PATIENCE_MS)]);
    // A socket that stays tells that its program failed; the next start takes it over.
    if (clean) { for (const { remove } of this.#doors) remove(); }
  }
}

/** Runs the VMM to its end. @throws what kept it from starting; the caller reports it */
export function serveVmm(
  command: RunCommand,
  personality: Personality,
  host: ServeHost,
): Promise<ExitStatus> {
  return new Program(command, personality, host).run();
}
