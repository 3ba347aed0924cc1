/**
 * The VMM as a program: front doors, control loop, signals, and the VM of the command line.
 *
 * L6, main isolate. What is not needed to answer `vmm.ping` is loaded after the program listens.
 * Source: spec/cli.md §3, spec/rest-api.md §1.
 */
import type { PathOrFd, Personality, RunCommand } from "@vmm/cli/command_result.ts";
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import { log } from "@vmm/log/logger.ts";
import { startBanner } from "./banner.ts";
import type { ApiCommand } from "./command.ts";
import type { ExitStatus } from "./control_loop.ts";
import { VmmService } from "./serve_service.ts";

/** Time for whatever is under way when the program is asked to end; then it ends anyway. */
const EXIT_PATIENCE_MS = 10_000;
/** The first client shall not wait for what only the first VM needs. */
const WARM_UP_DELAY_MS = 20;

const pause = (timeMs: number) => new Promise<void>((resolve) => setTimeout(resolve, timeMs));

/** What the program needs from outside this layer. */
export interface ServeHost {
  /** Closes a descriptor the configuration kept. */
  readonly closeDescriptor: (fd: number) => void;
  /** Lets signals through that were blocked when the program was started. */
  readonly unblockSignals: (names: readonly ("SIGTERM" | "SIGINT" | "SIGWINCH")[]) => void;
  /** Gives a signal the kernel's own action. */
  readonly resetSignal: (name: "SIGUSR1") => void;
}

/** One running program. */
class Program {
  readonly #service: VmmService;

  constructor(
    private readonly command: RunCommand,
    private readonly personality: Personality,
    private readonly host: ServeHost,
  ) {
    this.#service = new VmmService({ ...host, noShutdown: command.vmm.noShutdown });
  }

  /** Runs to the end. @throws what kept it from starting */
  async run(): Promise<ExitStatus> {
    const { vmm, vm } = this.command;
    if (vmm.gdbSocket !== undefined) throw new UnsupportedError("--gdb", "there is no debugger stub yet");
    if (vmm.eventMonitor !== undefined) await this.#openEventMonitor(vmm.eventMonitor);
    this.#service.events.emit("vmm", "starting");
    const ended = this.#service.loop.run();
    // Before there is a socket: whoever has seen it may ask for the end.
    this.#catchSignals();
    try {
      await this.#openDoors();
    } catch (cause) {
      throw new Error("Failed to start the VMM thread", { cause });
    }
    if (this.personality === "nephos") this.#showBanner();
    const failed = this.#startVm();
    if (vm === undefined) this.#warmUp();
    const status = await Promise.race([ended, failed]);
    await this.#service.close(status.code === 0);
    log.tellOwed(true);
    return status;
  }

  /** The bus comes first: whoever finds the socket finds the name as well. */
  async #openDoors(): Promise<void> {
    const { apiSocket, dbus } = this.command.vmm;
    if (dbus !== undefined) await this.#service.offerOnBus(dbus);
    if (apiSocket === undefined) return;
    this.#service.listen(apiSocket, this.personality === "nephos" ? "nephos" : "cloud-hypervisor");
  }

  async #openEventMonitor(output: PathOrFd): Promise<void> {
    const { EventSink } = await import("@vmm/log/event_sink.ts");
    try {
      const sink = output.kind === "path"
        ? EventSink.openPath(output.path)
        : EventSink.useDescriptor(output.fd);
      this.#service.events.subscribe((event) => sink.write(event));
    } catch (cause) {
      throw new Error("Error doing event monitor I/O", { cause });
    }
  }

  #catchSignals(): void {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      Deno.addSignalListener(signal, () => {
        this.#service.loop.requestExit(`Received ${signal}`);
        setTimeout(() => {
          log.error(`Ending after ${signal} although an operation is still under way`);
          Deno.exit(1);
        }, EXIT_PATIENCE_MS);
      });
    }
    Deno.addSignalListener("SIGWINCH", () => {
      this.#service.factory?.then((machine) => machine.windowChanged()).catch((error) =>
        log.warn(`Window size: ${error}`)
      );
    });
    // Half a second after its start Deno makes this one open a debugger's port to every user of the host. It leaves the action
    // alone that it finds in its own books, and there is one from the first listener on.
    Deno.addSignalListener("SIGUSR1", () => {});
    this.host.resetSignal("SIGUSR1");
    this.host.unblockSignals(["SIGTERM", "SIGINT", "SIGWINCH"]);
  }

  #showBanner(): void {
    const { vmm: { apiSocket }, vm } = this.command;
    const server = apiSocket?.kind === "fd" ? `descriptor ${apiSocket.fd}` : apiSocket?.path;
    try {
      Deno.stderr.writeSync(new TextEncoder().encode(startBanner(server, vm)));
    } catch {
      // Nobody reads it.
    }
  }

  /** Creates and boots, or restores, what the command line describes; settles only if that fails. */
  #startVm(): Promise<ExitStatus> {
    const { vm, restore } = this.command;
    const send = (message: string, command: ApiCommand) =>
      this.#service.loop.send(command).catch((cause) => {
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
        await this.#service.loop.send({ operation: "vm.delete", body: undefined }).catch(() => {});
        resolve({ code: 1, error });
      });
    });
  }

  /** Loads what the first VM will need, in small steps so that requests get their turn. */
  async #warmUp(): Promise<void> {
    try {
      await pause(WARM_UP_DELAY_MS);
      await this.#service.warmUp();
    } catch (error) {
      // No KVM, or none that can be used: vm.boot reports it with the whole chain.
      log.debug(`Warm-up: ${error instanceof Error ? error.message : error}`);
    }
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
