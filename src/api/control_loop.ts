/**
 * The control loop: the only consumer of the channel, the only owner of configuration and VM.
 *
 * L6, main isolate. Never waits while reading: what changes something goes into a queue and runs strictly one after another;
 * what only looks is answered at once. Source: spec/seed-api.txt "Internal API", spec/rest-api.md §4, §5.
 */
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { ConfigError } from "@vmm/errors/config_error.ts";
import { chainLine, placeOf } from "@vmm/errors/place.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { log } from "@vmm/log/logger.ts";
import { ApiChannel, type ApiRequest, type ResponseSender, type SendCommand } from "./channel.ts";
import type { ApiCommand, ApiReply, OperationName } from "./command.ts";
import { GuestEvents } from "./guest_events.ts";
import type { Operation } from "./operation.ts";
import { OPERATIONS } from "./operation_table.ts";
import { OperationError } from "./operation_error.ts";
import { refusalOf } from "./state_matrix.ts";
import { Vmm, type VmmParts } from "./vmm.ts";

/** Most operations waiting for their turn. */
const MAX_WAITING = 64;

/** How the program ends. */
export interface ExitStatus {
  readonly code: 0 | 1;
  /** Why, when the code is 1. */
  readonly error?: unknown;
}

/** What the control loop is made with. */
export interface ControlLoopOptions extends Omit<VmmParts, "onGuestEvent"> {
  /** Keep the program when the guest shuts down. */
  readonly noShutdown: boolean;
}

/** Figures about the loop for `/metrics`. */
export interface LoopFigures {
  /** Operations under way or waiting. */
  readonly waiting: number;
  /** State of the VM as `vm.info` spells it, undefined without configuration. */
  readonly vmState: string | undefined;
  readonly memoryActualBytes: bigint | undefined;
  /** Counters per device. */
  readonly devices: Record<string, Record<string, bigint>>;
  /** The instance's own figures. */
  readonly machine: Record<string, number>;
}

/** The loop. */
export class ControlLoop {
  readonly #channel = new ApiChannel();
  readonly #vmm: Vmm;
  readonly #queue: (() => Promise<void>)[] = [];
  readonly #guest: GuestEvents;
  #busy = false;
  #exit: ExitStatus | undefined;

  constructor(private readonly options: ControlLoopOptions) {
    this.#vmm = new Vmm({
      ...options,
      onGuestEvent: (event, epoch) => this.#channel.post({ kind: "guest", event, epoch }),
    });
    this.#guest = new GuestEvents(options.events);
  }

  /** Where front doors send commands. */
  get send(): SendCommand {
    return this.#channel.send;
  }

  /** Asks the program to end as after `vmm.shutdown`. `reason` goes to the log. */
  requestExit(reason: string): void {
    this.#channel.post({ kind: "exit", reason });
  }

  /** Runs until the program shall end. Never throws. */
  async run(): Promise<ExitStatus> {
    const reader = this.#channel.reader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.#accept(value);
    }
    return this.#exit ?? { code: 0 };
  }

  /** Figures for `/metrics`; reads only what is at rest. */
  figures(): LoopFigures {
    const { instance, state } = this.#vmm;
    const atRest = this.#busy ? undefined : instance;
    return {
      waiting: this.#queue.length + (this.#busy ? 1 : 0),
      vmState: state,
      memoryActualBytes: atRest?.memoryActualSize(),
      devices: atRest?.counters() ?? {},
      machine: atRest?.metrics() ?? {},
    };
  }

  #accept(request: ApiRequest): void {
    switch (request.kind) {
      case "command":
        return this.#acceptCommand(request.command, request.sender);
      case "guest":
        return this.#acceptGuestEvent(request.event, request.epoch);
      case "exit":
        log.info(request.reason);
        return this.#enqueue(() => this.#end({ code: 0 }));
      default:
        request satisfies never;
    }
  }

  #acceptCommand(command: ApiCommand, sender: ResponseSender): void {
    const operation = OPERATIONS[command.operation] as Operation;
    const now = operation.concurrency === "immediate" ||
      (operation.concurrency === "settled" && !this.#busy);
    if (now) {
      this.#answer(operation, command, sender);
    } else if (this.#queue.length >= MAX_WAITING) {
      sender.fail(
        new OperationError(operation.failure, StateError.refused("Too many operations are waiting")),
      );
    } else {
      this.#enqueue(() => this.#perform(operation, command, sender));
    }
  }

  /** Answers without waiting; for operations whose `run` returns a value. */
  #answer(operation: Operation, command: ApiCommand, sender: ResponseSender): void {
    try {
      const reply = this.#start(operation, command);
      if (reply instanceof Promise) reply.then((value) => sender.send(value), (error) => sender.fail(error));
      else sender.send(reply);
    } catch (error) {
      sender.fail(new OperationError(operation.failure, error));
    }
  }

  /** Announces, checks the state, runs. */
  #start(operation: Operation, command: ApiCommand): ApiReply | Promise<ApiReply> {
    const { situation } = this.#vmm;
    const { announces } = operation;
    if (announces?.in.includes(situation)) this.#vmm.events.emit("vm", announces.event);
    const refusal = refusalOf(operation.name, situation);
    if (refusal !== undefined) throw refusal;
    return operation.run(this.#vmm, command);
  }

  async #perform(operation: Operation, command: ApiCommand, sender: ResponseSender): Promise<void> {
    if (this.#exit !== undefined) {
      sender.fail(new OperationError(operation.failure, StateError.refused("VMM is shutting down")));
      return;
    }
    try {
      log.debug(`API request ${operation.name}`);
      sender.send(await this.#start(operation, command));
    } catch (error) {
      const failed = new OperationError(operation.failure, error);
      // What a client may not do is its business; what we could not do is ours.
      const refused = error instanceof StateError || error instanceof ConfigError;
      (refused ? log.info : log.error).call(
        log,
        `${operation.name}: ${chainLine(failed.chain())}${placeOf(error)}`,
      );
      sender.fail(failed);
      return;
    }
    if (operation.name === "vmm.shutdown") this.#finish({ code: 0 });
  }

  /** Runs an operation for the guest or for a signal: nobody waits for the answer. @throws what it failed with */
  async #runFor(name: OperationName): Promise<void> {
    const operation = OPERATIONS[name] as Operation;
    try {
      await this.#start(operation, { operation: name, body: undefined });
    } catch (error) {
      throw new OperationError(operation.failure, error);
    }
  }

  #acceptGuestEvent(event: GuestEvent, epoch: number): void {
    if (epoch !== this.#vmm.epoch) return;
    const wish = this.#guest.accept(event);
    if (wish === undefined) return;
    this.#enqueue(async () => {
      this.#guest.settle(wish);
      if (epoch !== this.#vmm.epoch || this.#exit !== undefined) return;
      switch (wish.kind) {
        case "reset":
          return await this.#resetByGuest();
        case "shutdown":
          return await (this.options.noShutdown ? this.#runFor("vm.shutdown") : this.#end({ code: 0 }));
        case "fatal":
          return await this.#end({ code: 1, error: new Error(wish.text) });
        default:
          wish satisfies never;
      }
    });
  }

  async #resetByGuest(): Promise<void> {
    try {
      await this.#runFor("vm.reboot");
    } catch (error) {
      await this.#end({ code: 1, error: new Error("Error rebooting VM", { cause: error }) });
    }
  }

  /** Does what `vmm.shutdown` does, then ends the loop with `status`. */
  async #end(status: ExitStatus): Promise<void> {
    if (this.#exit !== undefined) return;
    try {
      await this.#runFor("vmm.shutdown");
      this.#finish(status);
    } catch (error) {
      this.#finish({ code: 1, error });
    }
  }

  #finish(status: ExitStatus): void {
    this.#exit ??= status;
    this.#channel.close();
  }

  #enqueue(task: () => Promise<void>): void {
    this.#queue.push(task);
    if (!this.#busy) this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      try {
        await task();
      } catch (error) {
        log.error(`Control loop: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    this.#busy = false;
  }
}
