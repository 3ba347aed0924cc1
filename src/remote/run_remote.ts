/**
 * The remote client: one sub-command, one request, its answer on standard output.
 *
 * L6, main isolate. Used as `ch-remote` and as `nephos remote`. Source: spec/cli.md §7.
 */
import { readFileSync, writeSync } from "node:fs";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { BusPlace } from "./bus_proxy.ts";
import type { RemoteCommand } from "./commands.ts";
import { RemoteConnection, systemErrorText } from "./connection.ts";
import { readRemoteArguments, type RemoteInvocation } from "./remote_arguments.ts";
import { chainText, clientErrorText, isSuccess, logLine, serverErrorText } from "./remote_error.ts";

/** The outside world of one run. */
export interface RemoteIo {
  /** @throws a system error when the text cannot be written */
  out(text: string): void;
  err(text: string): void;
  /** Standard input to its end. */
  readInput(): Uint8Array<ArrayBuffer>;
  now(): Date;
}

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

/** Why a text need not be written: nobody reads it any more, or there is nowhere to write to. */
const NO_READER: readonly unknown[] = ["EPIPE", "EBADF"];

function writeAll(fd: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
  } catch (error) {
    if (!NO_READER.includes((error as { code?: unknown }).code)) throw error;
  }
}

const processIo: RemoteIo = {
  out: (text) => writeAll(STDOUT, text),
  err: (text) => {
    try {
      writeAll(STDERR, text);
    } catch {
      // The exit code has to do.
    }
  },
  readInput: () => new Uint8Array(readFileSync(STDIN)),
  now: () => new Date(),
};

type Command = Extract<RemoteInvocation, { kind: "command" }>;

/** A way to the VMM: sends a command, gives the text to print. */
interface Transport {
  /** @returns the exit code, having printed what there is to print */
  send(
    command: RemoteCommand,
    body: Uint8Array<ArrayBuffer> | undefined,
    fds: readonly number[],
  ): Promise<number>;
  close(): void;
}

/** Prints `text`. @throws ContextError when it cannot be written */
function show(text: string, io: RemoteIo): void {
  try {
    io.out(text);
  } catch (error) {
    throw new ContextError(["Error writing to standard output"], error);
  }
}

/** The REST API. @throws a system error when nobody listens */
async function restTransport(path: string, io: RemoteIo): Promise<Transport> {
  const connection = await RemoteConnection.open(path);
  return {
    async send({ method, endpoint }, body, fds) {
      const response = await connection.exchange({ method, path: `/api/v1/${endpoint}`, body, fds });
      if (!isSuccess(response.status)) {
        io.err(await serverErrorText(response));
        return 1;
      }
      if (response.body !== undefined) show(`${response.body}\n`, io);
      return 0;
    },
    close: () => connection.close(),
  };
}

/** The service on a message bus; it takes no descriptors. @throws Error without a bus */
async function busTransport(place: BusPlace, io: RemoteIo): Promise<Transport> {
  const { BusCallError, BusProxy } = await import("./bus_proxy.ts");
  const proxy = await BusProxy.open(place);
  return {
    async send({ endpoint }, body) {
      try {
        const text = await proxy.call(endpoint, body);
        if (text !== undefined) show(`${text}\n`, io);
        return 0;
      } catch (error) {
        if (!(error instanceof BusCallError)) throw error;
        io.err(chainText(["dbus api client error", error.message]));
        return 1;
      }
    },
    close: () => proxy.close(),
  };
}

/** The way the options name; undefined, having said why, when they name none or it is not there. */
async function openTransport({ global }: Command, io: RemoteIo): Promise<Transport | undefined> {
  const complain = (message: string) => void io.err(logLine(message, io.now()));
  const path = global.get("api-socket")?.[0];
  const serviceName = global.get("dbus-service-name")?.[0];
  const objectPath = global.get("dbus-object-path")?.[0];
  if (path !== undefined && (serviceName !== undefined || objectPath !== undefined)) {
    return complain("`api-socket` and (dbus-service-name or dbus-object-path) are mutually exclusive");
  }
  if (path !== undefined) {
    try {
      return await restTransport(path, io);
    } catch (error) {
      return complain(`Error opening HTTP socket: ${await systemErrorText(error)}`);
    }
  }
  if (serviceName === undefined || objectPath === undefined) {
    return complain(
      "Please either provide the api-socket option or dbus-service-name and dbus-object-path options",
    );
  }
  try {
    return await busTransport({ serviceName, objectPath, systemBus: global.has("dbus-system-bus") }, io);
  } catch {
    return complain("Error creating D-Bus proxy: dbus api client error");
  }
}

async function carryOut(invocation: Command, io: RemoteIo): Promise<number> {
  const { command, word, options } = invocation;
  const transport = await openTransport(invocation, io);
  if (transport === undefined) return 1;
  try {
    const hasBody = command.argument !== undefined || command.options !== undefined;
    const { body, fds } = hasBody
      ? (await import("./bodies.ts")).remoteBody(command.name, { word, options }, () => io.readInput())
      : { body: undefined, fds: [] };
    return await transport.send(command, body, fds);
  } catch (error) {
    io.err(await clientErrorText(error));
    return 1;
  } finally {
    transport.close();
  }
}

/**
 * Runs the remote client with `argv` (without the program's name) and returns the exit code. `program` is the name for usage
 * texts: `ch-remote` or `nephos remote`. Never throws.
 */
export async function runRemote(
  argv: readonly string[],
  program: string,
  io: RemoteIo = processIo,
): Promise<number> {
  const invocation = await readRemoteArguments(argv, program);
  if (invocation.kind === "command") return await carryOut(invocation, io);
  try {
    if (invocation.exitCode === 0) io.out(invocation.text);
    else io.err(invocation.text);
  } catch {
    // As the original: nobody acts on a help text.
  }
  return invocation.exitCode;
}
