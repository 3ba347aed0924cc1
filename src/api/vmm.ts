/**
 * The VMM's two possessions, configuration and instance, and the steps operations are made of.
 *
 * L6, main isolate. Made and used by the control loop only. Configurations are never changed in place: a changed one is a
 * new object, so its text can be kept. Source: spec/rest-api.md §3, §4, spec/lifecycle.md §1, §12.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { assertInternal } from "@vmm/errors/bug_error.ts";
import type { EventStream } from "@vmm/log/events.ts";
import type { VmFactory, VmInstance, VmState } from "@vmm/machine/vm_port.ts";
import type { ConfigTools } from "./config_tools.ts";
import type { Situation } from "./state_matrix.ts";

/** Names and versions `vmm.ping` answers with. */
export interface BuildInfo {
  /** As `v54.0.0`. */
  readonly buildVersion: string;
  /** As `54.0.0`. */
  readonly version: string;
  readonly pid: number;
  readonly features: readonly string[];
}

/** What a Vmm is made with. */
export interface VmmParts {
  /** Makes instances; loaded when the first one is wanted. */
  readonly factory: () => Promise<VmFactory>;
  readonly tools: () => Promise<ConfigTools>;
  readonly events: EventStream;
  readonly build: BuildInfo;
  /** Closes a descriptor the configuration kept. */
  readonly closeDescriptor: (fd: number) => void;
  /** Receives what the guest of instance number `epoch` makes happen. */
  readonly onGuestEvent: (event: GuestEvent, epoch: number) => void;
}

const SITUATION_OF: Record<VmState, Situation> = {
  Created: "created",
  Running: "running",
  Paused: "paused",
  BreakPoint: "breakpoint",
  Shutdown: "created",
};

/** Every descriptor a configuration holds. */
function descriptorsIn(config: VmConfig | undefined): Set<number> {
  const all = [
    ...(config?.net ?? []).flatMap((net) => net.fds ?? []),
    ...(config?.devices ?? []).flatMap((device) => device.fd ?? []),
    ...(config?.platform?.iommufd_fd === undefined ? [] : [config.platform.iommufd_fd]),
  ];
  return new Set(all.filter((fd) => fd >= 0));
}

/** What `vm.info` tells of an instance. */
export interface InstanceView {
  readonly state: VmState;
  readonly memoryActualSize: bigint;
  readonly deviceTree: Record<string, unknown>;
}

function viewOf(instance: VmInstance): InstanceView {
  return {
    state: instance.state,
    memoryActualSize: instance.memoryActualSize(),
    deviceTree: instance.deviceTree(),
  };
}

/** Configuration and instance. */
export class Vmm {
  readonly events: EventStream;
  readonly build: BuildInfo;
  /** Number of the present or next instance: what comes from an older one is out of date. */
  epoch = 0;
  #config: VmConfig | undefined;
  #instance: VmInstance | undefined;
  #tools: ConfigTools | undefined;
  #factory: VmFactory | undefined;
  /** What is seen in the place of the instance. */
  #shown: InstanceView | undefined;
  #consolesOpen = false;
  #configText: string | undefined;
  #tree: { readonly tree: Record<string, unknown>; readonly text: string } | undefined;

  constructor(private readonly parts: VmmParts) {
    this.events = parts.events;
    this.build = parts.build;
  }

  /** The stored configuration. */
  get config(): VmConfig | undefined {
    return this.#config;
  }

  /** The live VM. */
  get instance(): VmInstance | undefined {
    return this.#instance;
  }

  /** What can be seen of the instance: as it was before, while it is being dropped or replaced. */
  get view(): InstanceView | undefined {
    return this.#shown ?? (this.#instance && viewOf(this.#instance));
  }

  /** State as `vm.info` shows it; undefined without configuration. */
  get state(): VmState | undefined {
    return (this.#shown ?? this.#instance)?.state ?? (this.#config && "Created");
  }

  /** Column of the state matrix. */
  get situation(): Situation {
    if (this.#instance !== undefined) return SITUATION_OF[this.#instance.state];
    return this.#config === undefined ? "absent" : "cold";
  }

  /** The configuration the state matrix promised. */
  wantConfig(): VmConfig {
    assertInternal(this.#config, "The state table let an operation pass that needs a configuration");
    return this.#config;
  }

  /** The instance the state matrix promised. */
  wantInstance(): VmInstance {
    assertInternal(this.#instance, "The state table let an operation pass that needs an instance");
    return this.#instance;
  }

  /** The schemas' part, loaded on first use. */
  async tools(): Promise<ConfigTools> {
    return this.#tools ??= await this.parts.tools();
  }

  /** Replaces the configuration; descriptors that only the old one held are closed. */
  async store(config: VmConfig | undefined): Promise<void> {
    await this.tools();
    const kept = descriptorsIn(config);
    for (const fd of descriptorsIn(this.#config)) if (!kept.has(fd)) this.parts.closeDescriptor(fd);
    this.#config = config;
    this.#configText = undefined;
  }

  /** The configuration as JSON text, made once per configuration. */
  configText(): string {
    assertInternal(this.#tools, "A configuration was stored before its tools were loaded");
    return this.#configText ??= this.#tools.configText(this.wantConfig());
  }

  /** A device tree as JSON text; an instance that gives the same object again gets the same text. */
  deviceTreeText(tree: Record<string, unknown>): string {
    assertInternal(this.#tools, "An instance was made before its tools were loaded");
    if (this.#tree?.tree !== tree) this.#tree = { tree, text: this.#tools.deviceTreeText(tree) };
    return this.#tree.text;
  }

  /** Opens the console back-ends of the stored configuration and keeps what they filled in. */
  async openConsoles(): Promise<void> {
    if (this.#consolesOpen) return;
    const factory = await this.#machine();
    // Set first: what a failing call opened has to be released as well.
    this.#consolesOpen = true;
    try {
      await this.store(await factory.prepareConsoles(this.wantConfig()));
    } catch (error) {
      // The next boot tries again.
      await this.#closeConsoles();
      throw error;
    }
  }

  async #closeConsoles(): Promise<void> {
    if (!this.#consolesOpen) return;
    this.#consolesOpen = false;
    await (await this.#machine()).releaseConsoles();
  }

  async #machine(): Promise<VmFactory> {
    return this.#factory ??= await this.parts.factory();
  }

  /** Makes an instance of the stored configuration and starts it. One that fails to start stays, in state Created. */
  async bootInstance(): Promise<void> {
    assertInternal(this.#instance === undefined, "An instance exists already");
    const factory = await this.#machine();
    await this.openConsoles();
    factory.checkMemory?.(this.wantConfig());
    await this.store((await this.tools()).validate(this.wantConfig()));
    const epoch = ++this.epoch;
    this.#instance = await factory.create(
      this.wantConfig(),
      (event) => this.parts.onGuestEvent(event, epoch),
    );
    if (this.#instance.config !== undefined) await this.store(this.#instance.config);
    await this.#instance.boot();
  }

  /** Puts a new instance in the place of the present one; if it cannot, there is none. */
  async replaceInstance(): Promise<void> {
    await this.#unseen(async () => {
      await this.dropInstance();
      await this.#bootOrDrop();
    });
  }

  /** Changes the instance while all that is seen is what there was before. */
  async #unseen(change: () => Promise<void>): Promise<void> {
    const isInner = this.#shown !== undefined;
    this.#shown ??= viewOf(this.wantInstance());
    try {
      await change();
    } finally {
      if (!isInner) this.#shown = undefined;
      this.#tree = undefined;
    }
  }

  /** As `bootInstance`, but one that fails to start does not stay. */
  async #bootOrDrop(): Promise<void> {
    try {
      await this.bootInstance();
    } catch (error) {
      if (this.#instance !== undefined) await this.dropInstance();
      throw error;
    }
  }

  /** Stops and drops the instance and closes the consoles; the configuration stays. */
  async dropInstance(): Promise<void> {
    const instance = this.wantInstance();
    this.epoch++;
    await this.#unseen(async () => {
      await instance.shutdown();
      this.#instance = undefined;
      await this.#closeConsoles();
    });
  }

  /** Drops instance and configuration, telling `vm/shutdown` and `vm/deleted` as far as there was one. */
  async deleteAll(): Promise<void> {
    if (this.#instance !== undefined) {
      await this.dropInstance();
      this.events.emit("vm", "shutdown");
    }
    if (this.#config === undefined) return;
    await this.#closeConsoles();
    await this.store(undefined);
    this.events.emit("vm", "deleted");
  }
}
