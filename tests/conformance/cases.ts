/**
 * Requests for the state matrix: every operation at least once, sent in every situation.
 *
 * Tests only. `{dir}` stands for the directory of the program under test.
 */
import type { OperationName } from "@vmm/api/command.ts";
import type { Situation } from "@vmm/api/state_matrix.ts";

/** Situations that our program can be brought into. */
export const REACHABLE = ["absent", "cold", "created", "running", "paused"] as const satisfies Situation[];
/** All situations: a machine at a breakpoint is the original's with its debugger, or the fake one. */
export const RECORDED = [...REACHABLE, "breakpoint"] as const satisfies Situation[];
/** One of them. */
export type Reachable = typeof RECORDED[number];

/** One request. */
export interface Case {
  readonly method: "GET" | "PUT";
  readonly operation: OperationName;
  readonly body?: unknown;
  /** Situations in which the outcome is the machine's, not the API's: only whether it was asked is compared. */
  readonly machine?: readonly Reachable[];
  /** Situations in which the guest's reaction or the end of the process makes the events vary: not compared. */
  readonly eventsVary?: readonly Reachable[];
  /** Situations in which the original dies: not compared. */
  readonly fatalToOriginal?: readonly Reachable[];
  /** Situations in which the original fails half-way and ours succeeds: a listed difference. */
  readonly better?: readonly Reachable[];
}

/** Memory of the small guest, in bytes. */
const MEMORY_BYTES = 128 << 20;
const LIVE: readonly Reachable[] = ["created", "running", "paused", "breakpoint"];
/** The original refuses to leave a breakpoint by a shutdown, and drops the instance all the same. */
const BETTER: readonly Reachable[] = ["breakpoint"];
const STARTED: readonly Reachable[] = ["running", "paused"];

/** Configuration of the VM in every situation; `kernel` decides whether it boots. */
export function configuration(kernel: string): object {
  return {
    cpus: { boot_vcpus: 1, max_vcpus: 2 },
    memory: { size: MEMORY_BYTES },
    payload: { kernel },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  };
}

const get = (operation: OperationName): Case => ({ method: "GET", operation });
const put = (operation: OperationName, body?: unknown, options: Partial<Case> = {}): Case => ({
  method: "PUT",
  operation,
  body,
  ...options,
});

/** All requests. */
export const CASES: readonly Case[] = [
  get("vmm.ping"),
  get("vm.info"),
  get("vm.counters"),
  put("vm.create", configuration("{dir}/kernel")),
  put("vm.create", { serial: { mode: "Null" }, console: { mode: "Null" } }),
  put("vm.boot"),
  put("vm.pause"),
  put("vm.resume"),
  put("vm.power-button"),
  put("vm.nmi", undefined, { eventsVary: ["running", "paused", "breakpoint"] }),
  put("vm.snapshot", { destination_url: "file://{dir}/missing" }),
  put("vm.restore", { source_url: "file://{dir}/missing" }),
  put("vm.coredump", { destination_url: "file://{dir}/missing/core" }, { machine: STARTED }),
  put("vm.resize", {}),
  put("vm.resize", { desired_vcpus: 2 }, {
    machine: [...STARTED, "breakpoint"],
    fatalToOriginal: ["created"],
  }),
  put("vm.resize", { desired_balloon: 0 }, { machine: LIVE }),
  put("vm.resize", { desired_ram: 2 * MEMORY_BYTES }, { machine: LIVE }),
  put("vm.resize-zone", { id: "zone", desired_ram: 1 }),
  put("vm.resize-disk", { id: "disk", desired_size: 512 }, { machine: LIVE }),
  put("vm.add-device", { path: "{dir}/missing" }, { machine: LIVE }),
  put("vm.add-device", {}),
  put("vm.add-user-device", { socket: "{dir}/missing" }),
  put("vm.add-disk", { id: "disk", path: "{dir}/disk" }, { machine: LIVE }),
  put("vm.add-disk", { path: "{dir}/disk", queue_size: 3 }),
  put("vm.add-disk", { id: "__disk", path: "{dir}/disk" }),
  put("vm.add-fs", { tag: "tag", socket: "{dir}/missing" }),
  put("vm.add-pmem", { file: "{dir}/missing" }, { machine: LIVE }),
  put("vm.add-net", { id: "net" }, { machine: LIVE }),
  put("vm.add-net", { mtu: 100 }),
  put("vm.add-vdpa", { path: "{dir}/missing" }, { machine: LIVE }),
  put("vm.add-vsock", { cid: 3, socket: "{dir}/vsock" }, { machine: LIVE }),
  put("vm.add-vsock", { cid: 2, socket: "{dir}/vsock" }),
  put("vm.add-generic-vhost-user", { socket: "{dir}/missing", queue_sizes: [128], device_type: 1 }),
  put("vm.remove-device", { id: "missing" }, { machine: LIVE }),
  put("vm.send-migration", { destination_url: "somewhere" }),
  put("vm.send-migration", { destination_url: "unix:{dir}/missing" }, { machine: STARTED }),
  put("vm.receive-migration", { receiver_url: "somewhere" }),
  put("vm.shutdown", undefined, { better: BETTER }),
  put("vm.reboot", undefined, { better: BETTER }),
  put("vm.delete", undefined, { better: BETTER }),
  put("vmm.shutdown", undefined, { eventsVary: REACHABLE, better: BETTER }),
];

/** Name of a case in test names and in the golden file. */
export function caseName({ operation, body }: Case): string {
  return body === undefined ? operation : `${operation} ${JSON.stringify(body)}`;
}
