/**
 * Servers in every state of the VM, and the calls of the remote client that are compared there.
 *
 * Tests only.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import type { CallResult } from "./remote_calls.ts";

const MIB = 1 << 20;

/** A request that prepares a state: endpoint and body. */
export type Step = readonly [endpoint: string, body?: unknown];

/** One server, the original or one with its command line, in a directory of its own. */
export class RemoteServer implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync({ prefix: "remote-" });
  readonly socket = `${this.directory}/api.sock`;
  readonly #process: Deno.ChildProcess;

  constructor(program: string) {
    Deno.writeFileSync(`${this.directory}/kernel`, pvhElf(HALT));
    for (const name of ["disk0", "disk1", "pmem"]) {
      Deno.writeFileSync(this.#path(name), new Uint8Array(2 * MIB));
    }
    Deno.mkdirSync(this.#path("snapshot"));
    Deno.writeTextFileSync(this.#path("config.json"), JSON.stringify(this.config()));
    this.#process = new Deno.Command(program, {
      args: [
        "--api-socket",
        this.socket,
        "--event-monitor",
        `path=${this.#path("events")}`,
        "--seccomp",
        "false",
      ],
      cwd: this.directory,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  #path(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** The VM's configuration; `more` is put over it. */
  config(more: Record<string, unknown> = {}): unknown {
    return {
      payload: { kernel: this.#path("kernel") },
      cpus: { boot_vcpus: 1, max_vcpus: 2 },
      memory: { size: 64 * MIB, hotplug_size: 256 * MIB },
      disks: [{ id: "d0", path: this.#path("disk0"), image_type: "Raw" }],
      console: { mode: "Off" },
      serial: { mode: "Null" },
      ...more,
    };
  }

  /** Waits until it answers, then brings it into a state by `requests`. */
  async prepare(requests: readonly Step[]): Promise<void> {
    const deadline = Date.now() + 30_000;
    for (;;) {
      try {
        using connection = await HttpConnection.open(this.socket);
        for (const [endpoint, body] of requests) {
          const { status, body: text } = await connection.request("PUT", `/api/v1/${endpoint}`, body);
          assert.equal(status, 204, `${endpoint}: ${text}`);
        }
        return;
      } catch (error) {
        if (error instanceof assert.AssertionError || Date.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
  }

  /** Waits until `text` is among the events. */
  async told(text: string): Promise<void> {
    await eventually(
      `the event ${text}`,
      async () => (await Deno.readTextFile(this.#path("events"))).includes(text),
    );
  }

  /** A VM whose boot waits for the back-end of its disk. */
  waitingConfig(): unknown {
    const disks = [{ id: "d0", vhost_user: true, vhost_socket: this.#path("back-end") }];
    return this.config({ memory: { size: 64 * MIB, shared: true }, disks });
  }

  /** Begins a boot that lasts until `release` is called: then a back-end comes, leaves, and the boot fails. */
  async bootSlowly(): Promise<{ release: () => Promise<void> }> {
    await this.prepare([["vm.create", this.waitingConfig()]]);
    const connection = await HttpConnection.open(this.socket);
    const answer = connection.request("PUT", "/api/v1/vm.boot");
    await this.told('"booting"');
    const release = async () => {
      const listener = Deno.listen({ transport: "unix", path: this.#path("back-end") });
      const refusing = (async () => {
        for await (const client of listener) client.close();
      })();
      const { status, body } = await answer;
      assert.equal(status, 500, body);
      connection[Symbol.dispose]();
      listener.close();
      await refusing.catch(() => {});
    };
    return { release };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It is gone already.
    }
    await this.#process.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** States a VM can be brought into by requests. */
export const STATES = ["none", "created", "running", "paused", "shut down"] as const;
/** One of them. */
export type State = typeof STATES[number];

/** The requests that lead to `state`. */
export function stepsTo(state: State, server: RemoteServer): readonly Step[] {
  const create: Step = ["vm.create", server.config()];
  const steps: Readonly<Record<State, readonly Step[]>> = {
    none: [],
    created: [create],
    running: [create, ["vm.boot"]],
    paused: [create, ["vm.boot"], ["vm.pause"]],
    "shut down": [create, ["vm.boot"], ["vm.shutdown"]],
  };
  return steps[state];
}

/** Every sub-command. `@` stands for the server's directory. */
export const CALLS: readonly (readonly string[])[] = [
  ["add-device", "path=/nonexistent"],
  ["add-disk", "path=@/disk1,image_type=raw"],
  ["add-disk", "path=@/disk1,id=d0"],
  ["add-fs", "tag=t,socket=@/fs"],
  ["add-generic-vhost-user", "device_type=26,socket=@/v,queue_sizes=[2]"],
  ["add-net", ""],
  ["add-pmem", "file=@/pmem"],
  ["add-user-device", "socket=@/u"],
  ["add-vdpa", "path=/nonexistent"],
  ["add-vsock", "cid=3,socket=@/vsock"],
  ["boot"],
  ["coredump", "file://@/core"],
  ["counters"],
  ["create", "@/config.json"],
  ["create", "@/kernel"],
  ["delete"],
  ["info"],
  ["nmi"],
  ["pause"],
  ["ping"],
  ["power-button"],
  ["reboot"],
  ["receive-migration", "receiver_url=unix:/nonexistent/socket"],
  ["remove-device", "d0"],
  ["remove-device", "none"],
  ["resize", "--memory", "192M"],
  ["resize", "--cpus", "2"],
  ["resize", "--balloon", "1M"],
  ["resize"],
  ["resize-disk", "--disk", "d0", "--size", "4M"],
  ["resize-disk", "--disk", "none", "--size", "4M"],
  ["resize-zone", "--id", "z", "--size", "4M"],
  ["restore", "source_url=file:///nonexistent"],
  ["resume"],
  ["send-migration", "destination_url=tcp:0.0.0.0:1"],
  ["shutdown"],
  ["shutdown-vmm"],
  ["snapshot", "file://@/snapshot"],
  ["snapshot", "nonsense"],
];

/** `call` with the server's directory filled in. */
export function argumentsFor(call: readonly string[], server: RemoteServer): string[] {
  return ["--api-socket", server.socket, ...call.map((word) => word.replaceAll("@", server.directory))];
}

/** What may differ between two servers: their directories and process ids, the order in maps. */
export function comparable(result: CallResult, directory: string): unknown {
  const plain = (text: string) => text.replaceAll(directory, "@").replace(/"pid":\d+/, '"pid":0');
  const stdout = plain(result.stdout);
  return {
    code: result.code,
    stderr: plain(result.stderr),
    stdout: stdout.startsWith("{") ? JSON.parse(stdout) : stdout,
    newline: stdout.endsWith("\n"),
  };
}
