/**
 * The channel between the front doors and the control loop: many producers, one consumer, built on a stream.
 *
 * L6, main isolate. A command travels with the sender of its response. Source: spec/seed-api.txt "Internal API".
 */
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import type { ApiCommand, ApiReply } from "./command.ts";

/** Most commands waiting in the channel before producers are made to wait. */
const CAPACITY = 256;

/** Sending end of a one-shot channel: answers one command, once. */
export class ResponseSender {
  readonly #settled = Promise.withResolvers<ApiReply>();

  /** Receiving end. */
  get response(): Promise<ApiReply> {
    return this.#settled.promise;
  }

  /** Answers. Later calls have no effect. */
  send(reply: ApiReply): void {
    this.#settled.resolve(reply);
  }

  /** Answers with what went wrong. Later calls have no effect. */
  fail(error: unknown): void {
    this.#settled.reject(error);
  }
}

/** What the control loop receives. */
export type ApiRequest =
  | { readonly kind: "command"; readonly command: ApiCommand; readonly sender: ResponseSender }
  | { readonly kind: "guest"; readonly event: GuestEvent; readonly epoch: number }
  | { readonly kind: "exit"; readonly reason: string };

/** A producer's end: sends a command and gives its response. */
export type SendCommand = (command: ApiCommand) => Promise<ApiReply>;

/** The channel. */
export class ApiChannel {
  #controller!: ReadableStreamDefaultController<ApiRequest>;
  /** Settles when there is room again; made by the first producer that has to wait. */
  #room: PromiseWithResolvers<void> | undefined;
  #closed = false;
  readonly #stream: ReadableStream<ApiRequest>;

  constructor(capacity = CAPACITY) {
    this.#stream = new ReadableStream<ApiRequest>({
      start: (controller) => {
        this.#controller = controller;
      },
      pull: () => {
        this.#room?.resolve();
        this.#room = undefined;
      },
    }, new CountQueuingStrategy({ highWaterMark: capacity }));
  }

  /** Sends a command and waits for its response. @throws what the operation failed with */
  readonly send: SendCommand = (command) => {
    return this.#hasRoom() ? this.#enqueue(command) : this.#sendLater(command);
  };

  #hasRoom(): boolean {
    return !this.#closed && (this.#controller.desiredSize ?? 0) > 0;
  }

  #enqueue(command: ApiCommand): Promise<ApiReply> {
    const sender = new ResponseSender();
    this.#controller.enqueue({ kind: "command", command, sender });
    return sender.response;
  }

  async #sendLater(command: ApiCommand): Promise<ApiReply> {
    while (!this.#closed && !this.#hasRoom()) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
    }
    if (this.#closed) throw StateError.refused("VMM is shutting down");
    return await this.#enqueue(command);
  }

  /** Puts something that waits for no response into the channel. Dropped once the channel is closed. */
  post(request: Exclude<ApiRequest, { kind: "command" }>): void {
    if (!this.#closed) this.#controller.enqueue(request);
  }

  /** The consumer's end; there is only one. @throws TypeError when taken twice */
  reader(): ReadableStreamDefaultReader<ApiRequest> {
    return this.#stream.getReader();
  }

  /** Ends the channel: what is in it can still be read, nothing is taken any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#controller.close();
    this.#room?.resolve();
  }
}
