/**
 * A VMM without the program around it: control loop, counters, events, and the front doors opened on it.
 *
 * L6, main isolate. The program (`serve_vmm.ts`) and the embedding API (`src/embed`) are made of it. What is not needed to
 * answer `vmm.ping` is loaded later. Source: spec/rest-api.md §1.
 */
import { COMPATIBLE_BUILD_VERSION, COMPATIBLE_VERSION, FEATURES, NEPHOS_VERSION } from "@vmm/base/version.ts";
import type { PathOrFd } from "@vmm/cli/command_result.ts";
import { type Door, makeApiCounters, type RefusalReason } from "@vmm/log/counters.ts";
import { EventStream } from "@vmm/log/events.ts";
import { log } from "@vmm/log/logger.ts";
import type { KvmVmFactory } from "@vmm/machine/vm_factory.ts";
import { ControlLoop } from "./control_loop.ts";
import { serveUnix } from "./deno_serve.ts";
import { makeExtras } from "./extras.ts";
import type { FrontDoor } from "./front_door.ts";
import { adoptListener, claimPath, listenOn } from "./http1/serve_socket.ts";
import { Http1Server } from "./http1/server.ts";
import { metricsText } from "./metrics.ts";
import { makeRouter, type Router } from "./router.ts";

/** Time for answers being given when the doors close. */
const CLOSE_PATIENCE_MS = 1_500;

/** After the first boot, when clients have asked what they ask then. */
const REHEARSAL_DELAY_MS = 100;

/** How a front door speaks HTTP: as any server, with the extras; or byte for byte as the original. */
export type Dialect = "nephos" | "cloud-hypervisor";

/** What a service is made with. */
export interface ServiceOptions {
  /** Keep the VMM when the guest shuts down. */
  readonly noShutdown: boolean;
  /** Closes a descriptor the configuration kept. */
  readonly closeDescriptor: (fd: number) => void;
}

/** A front door, and how to remove what it left in the file system. */
interface OpenApi {
  readonly door: FrontDoor;
  readonly remove: () => void;
}

const loadTools = async () => {
  const { makeConfigTools } = await import("./schema_tools.ts");
  const { hostFiles } = await import("@vmm/backends/host_path.ts");
  return makeConfigTools(hostFiles);
};

const loadBodyReader = () => import("./body_reader.ts");

/** One VMM. */
export class VmmService {
  readonly events = new EventStream();
  readonly loop: ControlLoop;
  readonly #counters = makeApiCounters();
  readonly #doors: OpenApi[] = [];
  #factory: Promise<KvmVmFactory> | undefined;
  #rehearsalTimer: ReturnType<typeof setTimeout> | undefined;
  #rehearsal: Promise<void> | undefined;
  #closed = false;

  constructor({ noShutdown, closeDescriptor }: ServiceOptions) {
    this.loop = new ControlLoop({
      factory: () => this.loadFactory(),
      tools: loadTools,
      events: this.events,
      build: {
        buildVersion: COMPATIBLE_BUILD_VERSION,
        version: COMPATIBLE_VERSION,
        pid: Deno.pid,
        features: FEATURES,
      },
      closeDescriptor,
      noShutdown,
    });
    const leave = this.events.subscribe(({ source, event }) => {
      if (source !== "vm" || event !== "booted") return;
      leave();
      this.#rehearsalTimer = setTimeout(() => this.#rehearsal = this.#rehearse(), REHEARSAL_DELAY_MS);
      Deno.unrefTimer(this.#rehearsalTimer);
    });
  }

  /** Has the doors answer requests of our own, which nobody counts. Never rejects. */
  async #rehearse(): Promise<void> {
    try {
      const { rehearseRequests } = await import("./rehearsal.ts");
      for (const { door } of this.#doors) await rehearseRequests(door, () => this.#closed);
    } catch (error) {
      log.debug(`Rehearsal of requests: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** What makes VMs, loaded when it is first wanted. */
  loadFactory(): Promise<KvmVmFactory> {
    return this.#factory ??= import("@vmm/machine/vm_factory.ts").then(({ KvmVmFactory }) =>
      new KvmVmFactory()
    );
  }

  /** What makes VMs, if it was wanted already. */
  get factory(): Promise<KvmVmFactory> | undefined {
    return this.#factory;
  }

  /** Metrics in Prometheus' text form. */
  metrics(): string {
    return metricsText(this.#counters, this.loop.figures(), NEPHOS_VERSION);
  }

  /** Makes what answers the requests of a door, and counts them as its. */
  makeRouter(door: Door): Router {
    return makeRouter({
      send: this.loop.send,
      bodyReader: loadBodyReader,
      counters: this.#counters[door],
    });
  }

  /** Listens; a descriptor can be served by the drop-in dialect only. @throws Error when it cannot */
  listen(place: PathOrFd, dialect: Dialect): void {
    const router = this.makeRouter("http");
    const countRefusal = (reason: RefusalReason) => this.#counters.http.refuse(reason);
    if (place.kind === "path" && dialect === "nephos") {
      const claimed = claimPath(place.path);
      const extras = makeExtras({ metrics: () => this.metrics(), events: this.events });
      try {
        this.addDoor(serveUnix(claimed.path, router, extras, countRefusal), claimed.remove);
      } catch (error) {
        claimed.release();
        throw error;
      }
      return;
    }
    const claimed = place.kind === "path" ? claimPath(place.path) : undefined;
    const listener = claimed === undefined ? adoptListener((place as { fd: number }).fd) : listenOn(claimed);
    const server = new Http1Server(listener, router, countRefusal);
    server.run();
    this.addDoor(server, claimed?.remove);
  }

  /** Adds a door that was opened elsewhere; it is closed with the others. */
  addDoor(door: FrontDoor, remove: () => void = () => {}): void {
    this.#doors.push({ door, remove });
  }

  /** Offers the VMM on D-Bus. @throws Error without a bus, or when the name is taken */
  async offerOnBus(options: Parameters<typeof import("./dbus/serve_dbus.ts").serveDbus>[0]): Promise<void> {
    const { serveDbus } = await import("./dbus/serve_dbus.ts");
    try {
      const parts = {
        send: this.loop.send,
        bodies: await loadBodyReader(),
        events: this.events,
        counters: this.#counters.dbus,
      };
      this.addDoor(await serveDbus(options, parts));
    } catch (cause) {
      throw new Error("Error starting D-Bus session", { cause });
    }
  }

  /** Loads what the first VM will need, in small steps so that requests get their turn. @throws what failed */
  async warmUp(): Promise<void> {
    const { warmWorkers, rehearse } = await import("@vmm/machine/warm_up.ts");
    await warmWorkers();
    const { readBody } = await loadBodyReader();
    const tools = await loadTools();
    await this.loadFactory();
    await rehearse((text) => {
      const read = readBody("vm.create", new TextEncoder().encode(text));
      if (!read.ok) throw new Error(read.message);
      tools.configText(read.body);
      return tools.validate(read.body);
    });
  }

  /** Closes the doors; gives answers under way a moment. @param remove whether the sockets go too */
  async close(remove: boolean): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#rehearsalTimer);
    await this.#rehearsal;
    // Or a door would wait for readers of the feed, which never leave.
    this.events.end();
    const doors = this.#doors.splice(0);
    const patience = Promise.withResolvers<void>();
    const timer = setTimeout(patience.resolve, CLOSE_PATIENCE_MS);
    await Promise.race([Promise.all(doors.map(({ door }) => door.close())), patience.promise]);
    clearTimeout(timer);
    // A socket that stays tells that its program failed; the next start takes it over.
    if (remove) { for (const door of doors) door.remove(); }
  }
}
