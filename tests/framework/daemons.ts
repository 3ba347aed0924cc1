/**
 * Daemons a VM works with: storage, file systems, network, TPM. Each listens on a UNIX socket.
 *
 * Test framework.
 *
 * @module
 */

import { join } from "node:path";
import { Capture } from "./capture.ts";
import { eventually } from "./deadline.ts";
import { ROOT } from "./programs.ts";

/** Debian keeps it out of PATH. */
export const VIRTIOFSD = "/usr/lib/qemu/virtiofsd";

/** A running daemon; killed at the end of the scope. */
export class Daemon implements AsyncDisposable {
  readonly output: Capture;
  readonly errors: Capture;

  private constructor(readonly child: Deno.ChildProcess, readonly socket: string) {
    this.output = new Capture("the daemon's standard output", child.stdout);
    this.errors = new Capture("the daemon's standard error", child.stderr);
  }

  /** Starts a command; returns when its socket is there. `connects`: it has no socket of its own to wait for. */
  static async start(
    command: string[],
    socket: string,
    options: { connects?: boolean; cwd?: string } = {},
  ): Promise<Daemon> {
    if (!options.connects) await Deno.remove(socket).catch(() => {});
    const child = new Deno.Command(command[0], {
      args: command.slice(1),
      cwd: options.cwd,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const daemon = new Daemon(child, socket);
    try {
      await eventually(
        () => `a socket of ${command[0]}; it said: ${daemon.errors.text}`,
        () => options.connects || exists(socket),
      );
    } catch (error) {
      await daemon.kill();
      throw error;
    }
    return daemon;
  }

  /** qemu-storage-daemon with a raw image as a vhost-user block device. */
  static storage(
    socket: string,
    image: string,
    options: { queues?: number; readonly?: boolean } = {},
  ): Promise<Daemon> {
    const { queues = 1, readonly = false } = options;
    return Daemon.start([
      ...["qemu-storage-daemon", "--blockdev", `driver=file,node-name=file,filename=${image}`],
      ...["--blockdev", "driver=raw,node-name=disk,file=file"],
      "--export",
      `type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=${socket},` +
      `writable=${readonly ? "off" : "on"},num-queues=${queues}`,
    ], socket);
  }

  /** virtiofsd (the one in C) with a directory. It ends when its VMM hangs up. */
  static fileSystem(socket: string, directory: string): Promise<Daemon> {
    return Daemon.start([VIRTIOFSD, `--socket-path=${socket}`, "-o", `source=${directory}`, "-f"], socket);
  }

  /** Our own network back-end on a tap, perhaps in a namespace. `connect`: the VMM listens. */
  static network(
    socket: string,
    tap: string,
    options: { netns?: string; queuePairs?: number; connect?: boolean; mac?: string } = {},
  ): Promise<Daemon> {
    const { netns, ...rest } = options;
    const program = join(ROOT, "tests", "framework", "vhost_user", "net_daemon.ts");
    return Daemon.start(
      [
        ...(netns === undefined ? [] : ["ip", "netns", "exec", netns]),
        ...[Deno.execPath(), "run", "-A", "--no-check", program, JSON.stringify({ socket, tap, ...rest })],
      ],
      socket,
      { connects: options.connect, cwd: ROOT },
    );
  }

  /** swtpm with a fresh TPM 2.0, its state and its socket in `directory`. It serves one VMM after the other. */
  static tpm(directory: string): Promise<Daemon> {
    const socket = join(directory, "tpm.sock");
    return Daemon.start([
      ...["swtpm", "socket", "--tpm2", "--ctrl", `type=unixio,path=${socket}`],
      ...["--tpmstate", `dir=${directory}`],
    ], socket);
  }

  /** A back-end that serves nothing and prints what it is told. */
  static probe(socket: string, options: Record<string, unknown>): Promise<Daemon> {
    const program = join(ROOT, "tests", "framework", "vhost_user", "probe_daemon.ts");
    const command = [
      Deno.execPath(),
      "run",
      "-A",
      "--no-check",
      program,
      JSON.stringify({ socket, ...options }),
    ];
    return Daemon.start(command, socket, { cwd: ROOT, connects: options.connect === true });
  }

  /** Messages a probe has printed so far. */
  messages(): { name: string; payload: string; descriptors: number }[] {
    const lines = this.output.text.split("\n").filter((line) => line.startsWith(`{"name"`));
    return lines.map((line) => JSON.parse(line));
  }

  /** Ends it without any notice, as a crash does. */
  async kill(signal: Deno.Signal = "SIGKILL"): Promise<void> {
    try {
      this.child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await this.child.status;
    await Promise.all([this.output.done, this.errors.done]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
