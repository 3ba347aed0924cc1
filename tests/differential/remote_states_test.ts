/**
 * Every sub-command of the remote client against the original's server, in every state of the VM, beside the original's client.
 *
 * @module
 */
import assert from "node:assert/strict";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { callOurs, callReference, type CallResult, REFERENCE_REMOTE } from "./remote_calls.ts";
import { REFERENCE_VMM } from "./reference_vmm.ts";

const MIB = 1 << 20;

/** One original in a directory of its own. */
class Original implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync({ prefix: "remote-" });
  readonly socket = `${this.directory}/api.sock`;
  readonly #process: Deno.ChildProcess;

  constructor() {
    Deno.writeFileSync(`${this.directory}/kernel`, pvhElf(HALT));
    for (const name of ["disk0", "disk1", "pmem"]) {
      Deno.writeFileSync(this.#path(name), new Uint8Array(2 * MIB));
    }
    Deno.mkdirSync(this.#path("snapshot"));
    Deno.writeTextFileSync(this.#path("config.json"), JSON.stringify(this.config()));
    this.#process = new Deno.Command(REFERENCE_VMM!, {
      args: ["--api-socket", this.socket, "--seccomp", "false"],
      cwd: this.directory,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  #path(name: string): string {
    return `${this.directory}/${name}`;
  }

  config(): unknown {
    return {
      payload: { kernel: this.#path("kernel") },
      cpus: { boot_vcpus: 1, max_vcpus: 2 },
      memory: { size: 64 * MIB, hotplug_size: 256 * MIB },
      disks: [{ id: "d0", path: this.#path("disk0"), image_type: "Raw" }],
      console: { mode: "Off" },
      serial: { mode: "Null" },
    };
  }

  /** Waits until it answers, then brings it into a state by `requests`. */
  async prepare(requests: readonly (readonly [endpoint: string, body?: unknown])[]): Promise<void> {
    const deadline = Date.now() + 10_000;
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

type State = "none" | "created" | "running" | "paused" | "shut down";

const steps = (original: Original): Readonly<Record<State, readonly (readonly [string, unknown?])[]>> => ({
  none: [],
  created: [["vm.create", original.config()]],
  running: [["vm.create", original.config()], ["vm.boot"]],
  paused: [["vm.create", original.config()], ["vm.boot"], ["vm.pause"]],
  "shut down": [["vm.create", original.config()], ["vm.boot"], ["vm.shutdown"]],
});

/** `@` stands for the original's directory. */
const CALLS: readonly (readonly string[])[] = [
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

/** What may differ between two originals: their directories and process ids, the order in maps. */
function comparable(result: CallResult, directory: string): unknown {
  const plain = (text: string) => text.replaceAll(directory, "@").replace(/"pid":\d+/, '"pid":0');
  const stdout = plain(result.stdout);
  return {
    code: result.code,
    stderr: plain(result.stderr),
    stdout: stdout.startsWith("{") ? JSON.parse(stdout) : stdout,
    newline: stdout.endsWith("\n"),
  };
}

for (const state of ["none", "created", "running", "paused", "shut down"] as const) {
  const name = `VM ${state}: every sub-command does what the original's client does`;
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_REMOTE === undefined,
    fn: async () => {
      for (const call of CALLS) {
        const results = await Promise.all([callReference, callOurs].map(async (run) => {
          await using original = new Original();
          await original.prepare(steps(original)[state]);
          const args = call.map((word) => word.replaceAll("@", original.directory));
          return comparable(await run(["--api-socket", original.socket, ...args]), original.directory);
        }));
        assert.deepEqual(results[1], results[0], JSON.stringify(call));
      }
    },
  });
}
