/**
 * The original's own client against our server, for every sub-command in every state, beside the original's server.
 *
 * What differs is listed with its reason: parts of the machine that are not there yet. A listed call must differ, so that the
 * list shrinks with what is missing.
 *
 * @module
 */
import assert from "node:assert/strict";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { callReference, REFERENCE_REMOTE } from "./remote_calls.ts";
import {
  argumentsFor,
  CALLS,
  comparable,
  RemoteServer,
  type State,
  STATES,
  stepsTo,
} from "./remote_states.ts";

const LIVE: readonly State[] = ["running", "paused"];
const AT_REST: readonly State[] = ["none", "created", "shut down"];

/** What is not there yet: call, states, the words ours answers with. */
const MISSING: readonly (readonly [call: string, states: readonly State[], words: string])[] = [
  ["add-device path=/nonexistent", LIVE, "Hot-plugging a device device is not supported"],
  ["add-vdpa path=/nonexistent", LIVE, "Hot-plugging a vdpa device is not supported"],
  ["coredump file://@/core", LIVE, "A core dump is not supported"],
  [
    "receive-migration receiver_url=unix:/nonexistent/socket",
    AT_REST,
    "Live migration is not supported",
  ],
  ["resize --memory 192M", LIVE, "Changing the memory of a running VM is not supported"],
  ["resize --cpus 2", LIVE, "Changing the vCPUs of a running VM is not supported"],
  ["send-migration destination_url=tcp:0.0.0.0:1", LIVE, "Live migration is not supported"],
  ["snapshot file://@/snapshot", ["paused"], "A snapshot is not supported"],
];

/** `ping` names optional features: ours lacks the debugger. */
function withoutDebugger(result: unknown): unknown {
  const { stdout } = result as { stdout: unknown };
  if (typeof stdout !== "object" || stdout === null || !("features" in stdout)) return result;
  const features = (stdout.features as string[]).filter((name) => name !== "guest_debug");
  return { ...(result as object), stdout: { ...stdout, features } };
}

/** Calls that may leave something behind even if they fail. */
const LASTING = ["coredump", "send-migration", "receive-migration", "snapshot", "restore"];
/** Calls that change nothing if they succeed. */
const HARMLESS = ["ping", "info", "counters"];

/** A server in one state; a fresh one after every call that may have changed that. */
class Subject implements AsyncDisposable {
  #server: RemoteServer | undefined;

  constructor(private readonly program: string, private readonly state: State) {}

  async ask(call: readonly string[]): Promise<unknown> {
    if (this.#server === undefined) {
      this.#server = new RemoteServer(this.program);
      await this.#server.prepare(stepsTo(this.state, this.#server));
    }
    const result = await callReference(argumentsFor(call, this.#server));
    const shown = withoutDebugger(comparable(result, this.#server.directory));
    // A device that could not be added has used up an id or a slot.
    const mayLast = LASTING.includes(call[0]) || call[0].startsWith("add-");
    const isUnchanged = result.code === 0 ? HARMLESS.includes(call[0]) : !mayLast;
    if (!isUnchanged) await this[Symbol.asyncDispose]();
    return shown;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
    this.#server = undefined;
  }
}

for (const state of STATES) {
  testWith(
    { reference: true, binary: true, kvm: true, commands: REFERENCE_REMOTE ? [REFERENCE_REMOTE] : [] },
    `VM ${state}: the original's client gets from our server what it gets from its own`,
    async () => {
      await using reference = new Subject(programPath("reference")!, state);
      await using nephos = new Subject(programPath("cloud-hypervisor")!, state);
      for (const call of CALLS) {
        const [theirs, ours] = await Promise.all([reference.ask(call), nephos.ask(call)]);
        const name = call.join(" ");
        const missing = MISSING.find(([listed, states]) => listed === name && states.includes(state));
        if (missing === undefined) {
          assert.deepEqual(ours, theirs, name);
        } else {
          assert.notDeepEqual(ours, theirs, `${name}: listed as missing, but the same`);
          const { code, stderr } = ours as { code: number; stderr: string };
          assert.equal(code, 1, name);
          assert.ok(stderr.includes(missing[2]), `${name}: ${stderr}`);
        }
      }
    },
  );
}

/** Calls that ours answers while a boot is under way; all others wait for its end, as all of the original's do. */
const AT_ONCE = ["ping", "info"];

async function askWhileBooting(call: readonly string[]): Promise<unknown> {
  await using server = new RemoteServer(programPath("cloud-hypervisor")!);
  const { release } = await server.bootSlowly();
  let released = false;
  const answer = callReference(argumentsFor(call, server)).then((result) => {
    assert.equal(
      released,
      !AT_ONCE.includes(call[0]),
      `${call.join(" ")}: the answer came at the wrong time`,
    );
    return result;
  });
  if (AT_ONCE.includes(call[0])) await answer;
  released = true;
  await release();
  return withoutDebugger(comparable(await answer, server.directory));
}

/** The original needs a minute to give the same boot up: what it says of the VM that could not boot is the same before. */
async function askBefore(call: readonly string[]): Promise<unknown> {
  await using server = new RemoteServer(programPath("reference")!);
  await server.prepare([["vm.create", server.waitingConfig()]]);
  return withoutDebugger(comparable(await callReference(argumentsFor(call, server)), server.directory));
}

testWith(
  { reference: true, binary: true, kvm: true, commands: REFERENCE_REMOTE ? [REFERENCE_REMOTE] : [] },
  "VM booting: calls wait for their turn, ping and info do not; then the answers are the original's",
  async () => {
    for (const call of CALLS) {
      // A second boot would wait for the back-end once more; receiving a VM is missing in every state.
      if (["boot", "receive-migration"].includes(call[0])) continue;
      const [theirs, ours] = await Promise.all([askBefore(call), askWhileBooting(call)]);
      assert.deepEqual(ours, theirs, call.join(" "));
    }
  },
);
