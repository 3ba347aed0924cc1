/**
 * The remote client: one sub-command, one request, its answer on standard output.
 *
 * L6, main isolate. Used as `ch-remote` and as `nephos remote`. Source: spec/cli.md §7.
 */
import { readFileSync, writeSync } from "node:fs";
import { RemoteConnection, systemErrorText } from "./connection.ts";
import { readRemoteArguments, type RemoteInvocation } from "./remote_arguments.ts";
import { clientErrorText, isSuccess, logLine, serverErrorText } from "./remote_error.ts";

/** The outside world of one run. */
export interface RemoteIo {
  out(text: string): void;
  err(text: string): void;
  /** Standard input to its end. */
  readInput(): Uint8Array<ArrayBuffer>;
  now(): Date;
}

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

function writeAll(fd: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
  } catch {
    // Nobody reads it any more.
  }
}

const processIo: RemoteIo = {
  out: (text) => writeAll(STDOUT, text),
  err: (text) => writeAll(STDERR, text),
  readInput: () => new Uint8Array(readFileSync(STDIN)),
  now: () => new Date(),
};

type Command = Extract<RemoteInvocation, { kind: "command" }>;

/** Where the VMM is; undefined when the options do not say. */
function socketPath({ global }: Command, io: RemoteIo): string | undefined {
  const api = global.get("api-socket")?.[0];
  const bus = global.has("dbus-service-name") && global.has("dbus-object-path");
  const complain = (message: string) => void io.err(logLine(message, io.now()));
  if (api !== undefined && (global.has("dbus-service-name") || global.has("dbus-object-path"))) {
    complain("`api-socket` and (dbus-service-name or dbus-object-path) are mutually exclusive");
    return undefined;
  }
  if (api === undefined) {
    complain(
      bus
        ? "Error creating D-Bus proxy: this client speaks to the REST API only, use --api-socket"
        : "Please either provide the api-socket option or dbus-service-name and dbus-object-path options",
    );
  }
  return api;
}

async function carryOut(invocation: Command, io: RemoteIo): Promise<number> {
  const { command, word, options } = invocation;
  const path = socketPath(invocation, io);
  if (path === undefined) return 1;
  let connection: RemoteConnection;
  try {
    connection = await RemoteConnection.open(path);
  } catch (error) {
    io.err(logLine(`Error opening HTTP socket: ${await systemErrorText(error)}`, io.now()));
    return 1;
  }
  try {
    const hasBody = command.argument !== undefined || command.options !== undefined;
    const { body, fds } = hasBody
      ? (await import("./bodies.ts")).remoteBody(command.name, { word, options }, () => io.readInput())
      : { body: undefined, fds: [] };
    const target = `/api/v1/${command.endpoint}`;
    const response = await connection.exchange({ method: command.method, path: target, body, fds });
    if (!isSuccess(response.status)) {
      io.err(serverErrorText(response));
      return 1;
    }
    if (response.body !== undefined) io.out(`${response.body}\n`);
    return 0;
  } catch (error) {
    io.err(await clientErrorText(error));
    return 1;
  } finally {
    connection.close();
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
  if (invocation.exitCode === 0) io.out(invocation.text);
  else io.err(invocation.text);
  return invocation.exitCode;
}
